"""Claims about a task's form of answer that spreads to prompts which do not ask for it. Torch-free.

In the source `\\boxed`, the form of the mathematics stage, filled the tool calls of the stage after it. The lab's tasks
have forms of their own too: numbers in brackets, calls in braces.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.findings.claim import Arm, Claim, Evidence, Quantity, minus
from holdfast.findings.claims.two_stages import GRPO, SDFT, SDFT_FAST, SDPO, SDPO_FROZEN
from holdfast.findings.read import POINTS
from holdfast.lab.conventions import read
from holdfast.measure.forgetting import mean
from holdfast.store import RunDirectory, read_json

FORMS: Mapping[str, str] = {"calculation": "brackets", "tools": "braces"}
"""Conventions of the stream's two tasks, in their order."""


def foreign_form(answers: Mapping[str, list[Mapping[str, Any]]]) -> float | None:
    """Share of answers in a trained task's form on prompts of every other set, the mean over such pairs.

    Args:
        answers: by set, as a run keeps them after a stage.
    """
    shares = [
        sum(read(each["text"], form) is not None for each in own) / len(own)
        for task, form in FORMS.items()
        for name, own in answers.items()
        if name != task and own
    ]
    return mean(shares)


def _spread(folder: Path) -> float | None:
    """Points by which that share stands higher at the stream's end than of the base, which some prompts ask for it."""
    records = [RunDirectory(folder).responses(stage) for stage in (0, len(FORMS))]
    if not all(path.exists() for path in records):
        return None
    before, after = (foreign_form(read_json(path)["answers"]) for path in records)
    return None if before is None or after is None else POINTS * (after - before)


def _amplified(found: Evidence) -> list[Quantity]:
    spread = {label: [_spread(folder) for folder in folders] for label, folders in found.folders.items()}

    def above(a: Arm, b: Arm) -> list[float | None]:
        return minus(spread[a.label], spread[b.label])

    name = "answers in a trained task's form where it was not asked for"
    return [
        Quantity(f"{name}, gained by SDPO with EMA", "points", spread[SDPO.label], "Little spreads in sixty steps."),
        Quantity(
            f"{name}, SDPO with EMA above a frozen teacher",
            "points",
            above(SDPO, SDPO_FROZEN),
            "An average of 5% and the student at a stage's start are nearly the same within thirty steps.",
        ),
        Quantity(
            f"{name}, SDPO with EMA above GRPO",
            "points",
            above(SDPO, GRPO),
            "On the lab any change to unseen headers carries over to all of them, whoever asks for it.",
        ),
        Quantity(
            f"{name}, SDFT with a fast teacher above a slow one",
            "points",
            above(SDFT_FAST, SDFT),
            "A fast teacher loses its skill before it spreads a form.",
        ),
    ]


ARTIFACTS: tuple[Claim, ...] = (
    Claim(
        name="artifacts-amplified",
        statement="The loop of a student and a teacher that follows it carries a task's form of answer to prompts that "
        "do not ask for it, more than a frozen teacher or rewards do.",
        source="arXiv 2607.01763",
        arms=(SDPO, SDPO_FROZEN, GRPO, SDFT_FAST, SDFT),
        measure=_amplified,
    ),
)
