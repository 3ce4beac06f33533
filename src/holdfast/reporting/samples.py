"""Sample completions before and after each stage, with new words marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.reporting.number_format import number
from holdfast.reporting.view import SummaryView
from holdfast.reporting.word_changes import Word, new_words, pieces_of


@dataclass(frozen=True)
class ShownCompletion:
    """One stage's completion, split into words so that changes since the stage before can be marked."""

    stage: int
    reward: float | None
    words: tuple[Word, ...]
    change: str


def sample_panels(view: SummaryView) -> dict[str, Any]:
    """Completions by recipe and set, from each recipe's first run that has samples."""
    places = {s["name"]: i for i, s in enumerate(view.sets)}
    panels = []
    shown_sets: set[int] = set()
    for recipe in view.recipes:
        run = next((run for run in recipe.runs if run.summary.get("samples")), None)
        samples = run.summary["samples"] if run else []
        for name, place in places.items():
            items = [sample for sample in samples if sample["set"] == name]
            if not items or run is None:
                continue
            shown_sets.add(place)
            prompts = [_prompt(view, run.order_index, item) for item in items]
            panels.append(
                {"recipe": recipe.index, "set": place, "label": recipe.label, "name": name, "prompts": prompts}
            )
    first = next((recipe.runs[0] for recipe in view.recipes if recipe.runs), None)
    which = ""
    if not view.is_run and first is not None and len(view.runs) > len(view.recipes):
        which = f"seed {first.seed}" + (", first task order" if len(view.orders) > 1 else "")
    with_panels = {panel["recipe"] for panel in panels}
    return {
        "panels": panels,
        "which": which,
        "recipes": [(recipe.index, recipe.label) for recipe in view.recipes if recipe.index in with_panels],
        "sets": [(place, name) for name, place in places.items() if place in shown_sets],
    }


def _prompt(view: SummaryView, order_index: int, item: Mapping[str, Any]) -> dict[str, Any]:
    answers = [
        {
            "stage": view.stage_name(completion.stage, order_index),
            "reward": reward_text(completion.reward),
            "grade": grade(completion.reward),
            "change": completion.change,
            "words": completion.words,
        }
        for completion in sample_words(item.get("completions") or [])
    ]
    return {
        "id": item.get("id") or "",
        "prompt": item.get("prompt") or "",
        "system": item.get("system"),
        "answers": answers,
    }


def sample_words(completions: Sequence[Mapping[str, Any]]) -> list[ShownCompletion]:
    """One item's completions by stage, each with what is new since the stage before it."""
    shown: list[ShownCompletion] = []
    before: list[str] | None = None
    for completion in completions:
        pieces = pieces_of(str(completion.get("text") or ""))
        words, change = new_words(before, pieces)
        shown.append(
            ShownCompletion(int(completion.get("stage") or 0), number(completion.get("reward")), words, change)
        )
        before = pieces
    return shown


def reward_text(reward: float | None) -> str:
    """A reward for the reader: "reward 1", "reward 0.25", "no reward"."""
    return "no reward" if reward is None else f"reward {reward:.2f}".removesuffix("0").removesuffix(".0")


def grade(reward: float | None) -> str:
    """The CSS class that colors a reward."""
    return "none" if reward is None else "good" if reward >= 0.5 else "bad"
