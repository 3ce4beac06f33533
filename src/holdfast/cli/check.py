"""`holdfast check`: whether a configuration, its data and its model fit together, and whether its teacher helps."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from holdfast.cli.options import AnyConfigFile, JsonFile, Overrides
from holdfast.cli.overrides import parse_overrides
from holdfast.model.quiet import silence_progress_bars


def check(
    config: AnyConfigFile,
    items: Annotated[int, typer.Option("--items", min=1, help="Prompts per task to test the teacher on.")] = 50,
    json_file: JsonFile = None,
    settings: Overrides = None,
) -> None:
    """Check configuration, data and model, estimate memory, and test whether the teacher beats the student."""
    from holdfast import api
    from holdfast.store.files import write_json

    configs = api.run_configs(config, parse_overrides(settings))
    silence_progress_bars()
    results = {}
    for label, resolved in configs.items():
        results[label] = api.check(resolved, items=items)
        print(check_as_text(label, results[label]), flush=True)
    if json_file is not None:
        write_json(json_file, {"recipes": results})


def check_as_text(label: str, result: Mapping[str, Any]) -> str:
    """The result of `holdfast.api.check` for one recipe."""
    from rich.filesize import decimal

    lines = [label]
    for task in result["tasks"]:
        dropped = f", {task['dropped']} training examples dropped as too long" if task["dropped"] else ""
        counts = f"{task['train']} train, {task['test']} test, longest prompt {task['longest_prompt']} tokens"
        lines.append(f"  {task['name']}: {counts}{dropped}")
    purposes = {purpose.replace("_", " "): int(size) for purpose, size in result["memory"].items()}
    total = purposes.pop("total")
    parts = ", ".join(f"{purpose} {decimal(size)}" for purpose, size in purposes.items() if size)
    lines.append(f"  memory: about {decimal(total)} ({parts})")
    for teacher in result.get("teacher", ()):
        lines.append(f"  {'' if teacher['verdict'] == 'better' else 'WARNING: '}{teacher['sentence']}")
    if "teacher" not in result:
        lines.append("  teacher: this recipe has none, so there is nothing to test")
    return "\n".join(lines)
