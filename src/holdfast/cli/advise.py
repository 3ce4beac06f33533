"""`holdfast advise`: which recipes fit a configuration's tasks and a budget, and why."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.options import AnyConfigFile, JsonFile
from holdfast.cli.say import say

if TYPE_CHECKING:
    from holdfast.advise.advice import Advice, Beginning
    from holdfast.data.task import Task
    from holdfast.recipes.base.recipe import Recipe


def advise(
    config: AnyConfigFile,
    budget: Annotated[
        float | None,
        typer.Option("--budget", min=1, help="Highest accepted cost, as a multiple of SFT's cost on the same prompts."),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Also load the model, and measure how far the demonstrations are from its own answers.",
        ),
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Show which recipes fit the tasks' data and a budget, and why. Loads the data, and the model with --measure."""
    from holdfast import api
    from holdfast.advise.advice import advise as advice_on
    from holdfast.advise.advice import beginning
    from holdfast.store.files import write_json
    from holdfast.tasks.load import load_stream

    settings = _stream(config)
    tasks, _ = load_stream(settings)
    per_step = settings.train.prompts_per_step
    prompts = [(task.steps or settings.train.steps) * per_step for task in settings.tasks]
    provides = {task.name: sorted(task.provides()) for task in tasks}
    advice = advice_on(
        tasks,
        prompts,
        is_lora=settings.model.lora is not None,
        prompts_per_step=per_step,
        most=budget,
        named=_named(settings),
    )
    first = beginning(advice)
    say(as_text(provides, advice, first))
    distances = api.demonstration_distances(settings) if measure else None
    say(distances_as_text(tasks, distances))
    if json_file is not None:
        keys = ("recipe", "label", "settings", "reason", "source")
        chosen = None if first is None else {key: getattr(first, key) for key in keys}
        content: dict[str, Any] = {"provides": provides, "prompts": sum(prompts), "budget": budget}
        content["demonstrations"] = distances
        write_json(json_file, content | {"begin_with": chosen, "recipes": [each.as_json() for each in advice]})


def _stream(path: Path) -> Any:
    """The configuration; a run without a recipe is accepted too, because the recipe is the question."""
    from holdfast.config.load import parse_config
    from holdfast.config.settings import CompareConfig, RunConfig
    from holdfast.config.trust import refuse_own_trust
    from holdfast.config.yaml import read_config

    data = read_config(path)
    kind: Any = CompareConfig if "recipes" in data else RunConfig
    if kind is RunConfig:
        data = {"recipe": "sft", **data}
    config = parse_config(data, kind, where=str(path), base_dir=path.parent)
    refuse_own_trust(config, path, {})
    return config


def _named(settings: Any) -> "dict[str, Recipe]":
    """The recipes that a configuration names, by label."""
    from holdfast.config.settings import RunConfig

    if isinstance(settings, RunConfig):
        return {settings.recipe.name: settings.recipe}
    return {each.label: each.recipe for each in settings.recipes}


def as_text(provides: Mapping[str, list[str]], advice: "Sequence[Advice]", first: "Beginning | None") -> str:
    """The advice as text.

    Args:
        provides: what each task's data provides, by task.
        first: the recipe to start with; None if no recipe fits.
    """
    from holdfast.cli.tables import table

    lines = [f"{task} provides: {', '.join(_words(have)) or 'only prompts'}" for task, have in provides.items()]
    rows = [
        (
            _name(each),
            "fits" if each.fits else "over budget" if not each.lacks else "cannot run",
            f"{each.relative_cost:.1f}",
            f"{each.relative_memory:.2f}",
            f"{each.completions}",
            _why(each),
        )
        for each in advice
    ]
    header = ("recipe", "verdict", "× cost of SFT", "× memory", "completions", "why")
    lines += ["", table(header, rows), "", _settings_used(advice)]
    if first is None:
        lines.append("No recipe fits. Raise the budget, or add the data that a recipe needs.")
    else:
        how = _name(first) + (" with the settings of this configuration" if first.settings else "")
        source = f" ({first.source})" if first.source is not None else ""
        lines.append(f"Start with {how}{source}: {first.reason.removesuffix('.')}.")
        lines.append("Then compare it with other recipes that fit these tasks: `holdfast check`, `holdfast compare`.")
    return "\n".join(lines)


def distances_as_text(tasks: "Sequence[Task]", distances: Sequence[Mapping[str, Any]] | None) -> str:
    """How far demonstrations are from the model's own answers, or how to measure it.

    Args:
        distances: as `holdfast.api.demonstration_distances` gives them; None if they were not measured.
    """
    if distances is not None:
        return "\n".join(each["sentence"] for each in distances) or "No task has demonstrations of one turn."
    if not any("demonstration" in task.provides() for task in tasks):
        return ""
    return (
        "SFT forgets more the further demonstrations are from the model's own answers. `holdfast advise --measure` and "
        "`holdfast check` measure it."
    )


def _name(of: "Advice | Beginning") -> str:
    return of.recipe if of.label == of.recipe else f"{of.label} ({of.recipe})"


def _settings_used(advice: "Sequence[Advice]") -> str:
    """Which settings the costs are computed for."""
    # Of a prompt template only the name is shown, because its text takes several lines.
    configured = [
        f"{_name(each)} with {', '.join(k if k.endswith('template') else f'{k} {v}' for k, v in each.settings.items())}"
        for each in advice
        if each.settings
    ]
    if not configured:
        return "All recipes are rated with their default settings."
    return f"Rated with the settings of this configuration: {'; '.join(configured)}. All others: default settings."


def _why(advice: "Advice") -> str:
    if not advice.lacks:
        return advice.when + (" With one task nothing is replayed." if advice.replays is None else "")
    # Tasks that lack the same are named together.
    tasks: dict[str, list[str]] = {}
    for task, needs in advice.lacks.items():
        tasks.setdefault(", ".join(_words(needs)), []).append(task)
    return "; ".join(f"needs {needs}; missing in {', '.join(names)}" for needs, names in tasks.items())


def _words(needs: Sequence[str]) -> list[str]:
    return [need.replace("_", " ") for need in needs]
