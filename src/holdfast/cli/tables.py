"""Text for the terminal that is not about one run's results: recipes, checks, tables."""

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.advise.cost import cost_of
from holdfast.recipes import RECIPES
from holdfast.recipes.base.needs import FIXES
from holdfast.recipes.sft import SFT

WIDEST = 110
"""Columns of text that are still easy to read."""


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows under a header in aligned columns; columns of numbers stand right."""
    cells = [[str(cell) for cell in row] for row in rows]
    lines = [""] * (len(rows) + 1)
    for title, *column in zip(header, *cells):
        width = max(map(len, (title, *column)))
        numeric = all(text.lstrip("[+-−–")[:1].isdigit() or text == "–" for text in column)
        for index, text in enumerate((title, *column)):
            lines[index] += (text.rjust(width) if numeric else text.ljust(width)) + "  "
    return "\n".join(line.rstrip() for line in lines)


def interval(ci95: Sequence[float] | None) -> str:
    """A 95% interval of a score, in percent."""
    return "–" if ci95 is None else f"[{ci95[0]:.1%}, {ci95[1]:.1%}]"


def recipe_facts() -> dict[str, dict[str, Any]]:
    """What there is to know about each recipe before using it, with its default settings, by name."""
    facts = {}
    sft = cost_of(SFT())
    for name, kind in RECIPES.items():
        recipe = kind()
        cost = cost_of(recipe)
        facts[name] = {
            "summary": kind.summary,
            "when": kind.when,
            "needs": {need.replace("_", " "): FIXES.get(need, "") for need in sorted(kind.needs)},
            "wiring": recipe.wiring(),
            "cost": f"{kind.cost}; {cost.held_in_words()}",
            "relative_cost": round(cost.relative_to(sft), 2),
            "relative_memory": round(cost.memory_relative_to(sft), 2),
            "source": kind.source,
            "settings": recipe.model_dump(mode="json"),
        }
    return facts


def times_sft(facts: Mapping[str, Any]) -> str:
    """What a recipe costs beside SFT, in words."""
    cost, memory = facts["relative_cost"], facts["relative_memory"]
    return f"{cost:g} times SFT's operations, {memory:g} times its memory{' without LoRA' if memory != 1 else ''}"


def recipes_as_text() -> str:
    """The same as text; templates among the settings are left out."""
    width = min(WIDEST, shutil.get_terminal_size().columns)
    blocks = []
    for name, facts in recipe_facts().items():
        settings = {key: value for key, value in facts["settings"].items() if not key.endswith("template")}
        lines = {
            "when": facts["when"],
            "needs": "; ".join(f"{need}: {fix}" for need, fix in facts["needs"].items()) or "nothing",
            **facts["wiring"],
            "cost": f"{facts['cost']}; at most {times_sft(facts)}",
            "source": facts["source"],
            "settings": ", ".join(f"{key}={value}" for key, value in settings.items()),
        }
        block = textwrap.wrap(f"{name}: {facts['summary']}", width, subsequent_indent="  ")
        for title, text in lines.items():
            block += textwrap.wrap(text, width, initial_indent=f"  {title:11}", subsequent_indent=" " * 13)
        blocks.append("\n".join(block))
    return "\n\n".join(blocks)


def check_as_text(label: str, found: Mapping[str, Any]) -> str:
    """What `holdfast.api.check` found about one recipe."""
    lines = [label]
    for task in found["tasks"]:
        dropped = f", {task['dropped']} training examples left out as too long" if task["dropped"] else ""
        counts = f"{task['train']} train, {task['test']} test, longest prompt {task['longest_prompt']} tokens"
        lines.append(f"  {task['name']}: {counts}{dropped}")
    purposes = {purpose.replace("_", " "): size for purpose, size in found["memory"].items()}
    total = purposes.pop("total")
    lines.append(f"  memory: about {_size(total)} ({', '.join(f'{p} {_size(n)}' for p, n in purposes.items() if n)})")
    for teacher in found.get("teacher", ()):
        lines.append(f"  {'' if teacher['verdict'] == 'better' else 'WARNING: '}{teacher['sentence']}")
    if "teacher" not in found:
        lines.append("  no teacher, so none to test")
    return "\n".join(lines)


def _size(count: float) -> str:
    """Bytes in the unit that reads best."""
    power = min(4, max(0, len(str(int(count))) - 1) // 3)
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
