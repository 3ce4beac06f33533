"""`holdfast advise`: which recipes fit a configuration's tasks and a budget, and why."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from holdfast.methods.advice import Advice, Beginning


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
    from holdfast.methods.advice import advise as advice_on
    from holdfast.methods.advice import beginning
    from holdfast.store import write_json
    from holdfast.tasks.load import load_stream

    settings = _stream(config)
    tasks, _ = load_stream(settings)
    steps = sum(task.steps or settings.train.steps for task in settings.tasks)
    prompts = steps * settings.train.prompts_per_step
    provides = {task.name: sorted(task.provides()) for task in tasks}
    found = advice_on(tasks, prompts, is_lora=settings.model.lora is not None, most=budget)
    first = beginning(found)
    print(as_text(provides, found, first))
    if json_file is not None:
        chosen = None if first is None else {"recipe": first.recipe, "reason": first.reason, "source": first.source}
        content: dict[str, Any] = {"provides": provides, "prompts": prompts, "budget": budget, "begin_with": chosen}
        write_json(json_file, content | {"recipes": [each.as_json() for each in found]})


def _stream(path: Path) -> Any:
    """The configuration with whatever recipe it names, or with none: the recipe is what is asked for."""
    from holdfast.config import CompareConfig, RunConfig, parse_config, read_config

    data = read_config(path)
    kind: Any = CompareConfig if "recipes" in data else RunConfig
    if kind is RunConfig:
        data = {"recipe": "sft", **data}
    return parse_config(data, kind, where=str(path), base_dir=path.parent)


def as_text(provides: Mapping[str, list[str]], found: "Sequence[Advice]", first: "Beginning | None") -> str:
    """What was found, for the terminal."""
    from holdfast.describe import table

    lines = [f"{task} provides: {', '.join(_words(have)) or 'prompts alone'}" for task, have in provides.items()]
    rows = [
        (
            each.recipe,
            "fits" if each.fits else "over the budget" if not each.lacks else "cannot run",
            f"{each.relative_cost:.1f}",
            f"{each.relative_memory:.2f}",
            f"{each.completions}",
            _why(each),
        )
        for each in found
    ]
    header = ("recipe", "verdict", "× SFT's work", "× memory", "completions", "why")
    lines += ["", table(header, rows), ""]
    if first is None:
        lines.append("No recipe fits: raise the budget, or give the tasks what a recipe needs.")
    else:
        lines.append(f"Begin with {first.recipe} ({first.source}): {first.reason}.")
        lines.append("Then compare it with the others that fit, on these tasks: `holdfast check`, `holdfast compare`.")
    return "\n".join(lines)


def _why(advice: "Advice") -> str:
    if not advice.lacks:
        return advice.when
    # What is missing, once for all tasks that miss the same.
    tasks: dict[str, list[str]] = {}
    for task, needs in advice.lacks.items():
        tasks.setdefault(", ".join(_words(needs)), []).append(task)
    return "; ".join(f"needs {needs}, which {', '.join(names)} lacks" for needs, names in tasks.items())


def _words(needs: Sequence[str]) -> list[str]:
    return [need.replace("_", " ") for need in needs]
