"""`holdfast methods`: all recipes, and what to know before choosing one."""

import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

from holdfast.cli.options import AsJson
from holdfast.cli.say import say, say_json
from holdfast.cli.tables import WIDEST


def methods(as_json: AsJson = False) -> None:
    """Show each recipe: its parts, what a task must provide, what it costs, and when to choose it."""
    if as_json:
        say_json(recipe_facts())
    else:
        say(recipes_as_text())


def recipe_facts() -> dict[str, dict[str, Any]]:
    """By name: what to know about each recipe before using it, and its default settings."""
    from holdfast.advise.cost import cost_of
    from holdfast.recipes import RECIPES
    from holdfast.recipes.base.needs import FIXES
    from holdfast.recipes.sft import SFT

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
    """What a recipe costs compared with SFT, as text."""
    cost, memory = facts["relative_cost"], facts["relative_memory"]
    return f"{cost:g} times SFT's operations, {memory:g} times its memory{' without LoRA' if memory != 1 else ''}"


def recipes_as_text() -> str:
    """The facts of all recipes as text; prompt templates among the settings are left out, because they are long."""
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
