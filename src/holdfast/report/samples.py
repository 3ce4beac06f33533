"""What the model said before and after each stage, with what is new in it marked."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.report.numbers import number
from holdfast.report.view import View


@dataclass(frozen=True)
class Word:
    """A piece of a completion; `new` where the stage before did not say it."""

    text: str
    new: bool


@dataclass(frozen=True)
class ShownCompletion:
    """One stage's answer, split so that what changed since the stage before can be marked."""

    stage: int
    reward: float | None
    words: tuple[Word, ...]
    change: str


def samples(view: View) -> dict[str, Any]:
    """Completions by recipe and set, from each recipe's first run."""
    places = {s["name"]: i for i, s in enumerate(view.sets)}
    panels = []
    shown_sets: set[int] = set()
    for arm in view.arms:
        run = next((run for run in arm.runs if run.summary.get("samples")), None)
        found = run.summary["samples"] if run else []
        for name, place in places.items():
            items = [sample for sample in found if sample["set"] == name]
            if not items or run is None:
                continue
            shown_sets.add(place)
            shown = [_item(view, run.order_index, item) for item in items]
            panels.append({"recipe": arm.index, "set": place, "label": arm.label, "name": name, "prompts": shown})
    first = next((arm.runs[0] for arm in view.arms if arm.runs), None)
    of = ""
    if not view.is_run and first is not None and len(view.runs) > len(view.arms):
        of = f"the run with seed {first.seed}" + (", first task order," if len(view.orders) > 1 else "")
    return {
        "panels": panels,
        "of": of,
        "recipes": [(arm.index, arm.label) for arm in view.arms if any(p["recipe"] == arm.index for p in panels)],
        "sets": [(place, name) for name, place in places.items() if place in shown_sets],
    }


def _item(view: View, order_index: int, item: Mapping[str, Any]) -> dict[str, Any]:
    answers = []
    for completion in sample_words(item.get("completions") or []):
        reward = completion.reward
        grade = "none" if reward is None else "good" if reward >= 0.5 else "bad"
        answers.append(
            {
                "stage": view.stage_name(completion.stage, order_index),
                "reward": "no reward"
                if reward is None
                else f"reward {reward:.2f}".removesuffix("0").removesuffix(".0"),
                "grade": grade,
                "change": completion.change,
                "words": completion.words,
            }
        )
    return {
        "id": item.get("id") or "",
        "prompt": item.get("prompt") or "",
        "system": item.get("system"),
        "answers": answers,
    }


def sample_words(completions: Sequence[Mapping[str, Any]]) -> list[ShownCompletion]:
    """One item's completions by stage, each with what is new against the stage before it."""
    shown: list[ShownCompletion] = []
    before: list[str] | None = None
    for completion in completions:
        text = str(completion.get("text") or "")
        pieces = re.findall(r"\S+|\s+", text)
        words, change = _changes(before, pieces)
        shown.append(
            ShownCompletion(int(completion.get("stage") or 0), number(completion.get("reward")), words, change)
        )
        before = pieces
    return shown


def _changes(before: list[str] | None, now: list[str]) -> tuple[tuple[Word, ...], str]:
    plain = (Word("".join(now), False),)
    if before is None:
        return plain, ""
    if before == now:
        return plain, "unchanged"
    if len(before) * len(now) > 4_000_000:  # the comparison is quadratic; such texts are shown without marks
        return plain, "changed"
    matcher = difflib.SequenceMatcher(None, before, now, autojunk=False)
    if matcher.ratio() < 0.4:  # with most of it new, marks would only be noise
        return plain, "rewritten"
    words = [
        Word("".join(now[start:end]), tag != "equal") for tag, _, _, start, end in matcher.get_opcodes() if end > start
    ]
    return tuple(words), "changed"
