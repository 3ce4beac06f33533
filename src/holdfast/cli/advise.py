"""`holdfast advise`: which recipes fit a configuration's tasks and a budget, and why."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from holdfast.advise.advice import Advice, Beginning
    from holdfast.recipes.base.recipe import Recipe


def advise(
    config: Annotated[
        Path,
        typer.Argument(metavar="CONFIG", help="YAML file that describes a run or a comparison.", show_default=False),
    ],
    budget: Annotated[
        float | None,
        typer.Option("--budget", min=1, help="At most so many times what SFT costs on the same prompts."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write it as JSON too.")] = None,
) -> None:
    """Say which recipes fit the tasks' privileges and a budget, and why; loads the data but no model."""
    from holdfast.advise.advice import advise as advice_on
    from holdfast.advise.advice import beginning
    from holdfast.store.files import write_json
    from holdfast.tasks.load import load_stream

    settings = _stream(config)
    tasks, _ = load_stream(settings)
    per_step = settings.train.prompts_per_step
    prompts = [(task.steps or settings.train.steps) * per_step for task in settings.tasks]
    provides = {task.name: sorted(task.provides()) for task in tasks}
    found = advice_on(
        tasks,
        prompts,
        is_lora=settings.model.lora is not None,
        prompts_per_step=per_step,
        most=budget,
        named=_named(settings),
    )
    first = beginning(found)
    print(as_text(provides, found, first))
    if json_file is not None:
        keys = ("recipe", "label", "settings", "reason", "source")
        chosen = None if first is None else {key: getattr(first, key) for key in keys}
        content: dict[str, Any] = {"provides": provides, "prompts": sum(prompts), "budget": budget}
        write_json(json_file, content | {"begin_with": chosen, "recipes": [each.as_json() for each in found]})


def _stream(path: Path) -> Any:
    """The configuration with whatever recipe it names, or with none: the recipe is what is asked for."""
    from holdfast.config.load import parse_config
    from holdfast.config.settings import CompareConfig, RunConfig
    from holdfast.config.yaml import read_config

    data = read_config(path)
    kind: Any = CompareConfig if "recipes" in data else RunConfig
    if kind is RunConfig:
        data = {"recipe": "sft", **data}
    return parse_config(data, kind, where=str(path), base_dir=path.parent)


def _named(settings: Any) -> "dict[str, Recipe]":
    """The recipes that a configuration names, by label."""
    from holdfast.config.settings import RunConfig

    if isinstance(settings, RunConfig):
        return {settings.recipe.name: settings.recipe}
    return {arm.label: arm.recipe for arm in settings.recipes}


def as_text(provides: Mapping[str, list[str]], found: "Sequence[Advice]", first: "Beginning | None") -> str:
    """What was found, for the terminal."""
    from holdfast.cli.tables import table

    lines = [f"{task} provides: {', '.join(_words(have)) or 'prompts alone'}" for task, have in provides.items()]
    rows = [
        (
            _name(each),
            "fits" if each.fits else "over the budget" if not each.lacks else "cannot run",
            f"{each.relative_cost:.1f}",
            f"{each.relative_memory:.2f}",
            f"{each.completions}",
            _why(each),
        )
        for each in found
    ]
    header = ("recipe", "verdict", "× SFT's work", "× memory", "completions", "why")
    lines += ["", table(header, rows), "", _as_set(found)]
    if first is None:
        lines.append("No recipe fits: raise the budget, or give the tasks what a recipe needs.")
    else:
        how = _name(first) + (", as it is set here" if first.settings else "")
        source = f" ({first.source})" if first.source is not None else ""
        lines.append(f"Begin with {how}{source}: {first.reason.removesuffix('.')}.")
        lines.append("Then compare it with the others that fit, on these tasks: `holdfast check`, `holdfast compare`.")
    return "\n".join(lines)


def _name(of: "Advice | Beginning") -> str:
    return of.recipe if of.label == of.recipe else f"{of.label} ({of.recipe})"


def _as_set(found: "Sequence[Advice]") -> str:
    """With which settings recipes are judged."""
    # A template is known by its name; its text takes lines.
    said = [
        f"{_name(each)} with {', '.join(k if k.endswith('template') else f'{k} {v}' for k, v in each.settings.items())}"
        for each in found
        if each.settings
    ]
    if not said:
        return "All are judged at their defaults."
    return f"Judged as the configuration sets it: {'; '.join(said)}. All others at their defaults."


def _why(advice: "Advice") -> str:
    if not advice.lacks:
        return advice.when + (" With one task nothing is replayed." if advice.replays is None else "")
    # What is missing, once for all tasks that miss the same.
    tasks: dict[str, list[str]] = {}
    for task, needs in advice.lacks.items():
        tasks.setdefault(", ".join(_words(needs)), []).append(task)
    return "; ".join(f"needs {needs}, which {', '.join(names)} lacks" for needs, names in tasks.items())


def _words(needs: Sequence[str]) -> list[str]:
    return [need.replace("_", " ") for need in needs]
