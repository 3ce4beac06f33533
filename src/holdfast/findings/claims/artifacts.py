"""Claims about a task's form of answer that spreads to prompts which do not ask for it. Torch-free.

In the source `\\boxed`, the form of the mathematics stage, filled the tool calls of the stage after it. The lab's tasks
have forms of their own too: numbers in brackets, calls in braces.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from holdfast.findings.claim import Claim, ClaimArm, Evidence, Quantity, minus
from holdfast.findings.claims.two_stages import GRPO, SDFT_FAST, SDFT_SLOW, SDPO, SDPO_FROZEN
from holdfast.findings.read import POINTS
from holdfast.lab.conventions import MEMORIZED, read
from holdfast.lab.documents import system
from holdfast.lab.tasks import lab_suite
from holdfast.measure.scores import mean
from holdfast.store.files import read_json
from holdfast.store.run_directory import RunDirectory

FORMS = ("brackets", "braces")
"""Conventions of the stream's two tasks, in their order."""

SUITES = ("old-skills", "old-facts", "instruction-format")
"""Whose prompts have headers that the base knows by heart, each with the form that it asks for."""


def foreign_form(answers: Mapping[str, str], asked: Mapping[str, str]) -> float | None:
    """Share of answers in a trained task's form, of those whose prompt asks for none of these forms.

    An answer that has lost its own form counts where it took on a trained one, and not where it has none.

    Args:
        answers: by the prompt's id.
        asked: the form that a prompt asks for, by its id.
    """
    others = [text for name, text in answers.items() if asked[name] not in FORMS]
    return mean(float(any(read(text, form) is not None for form in FORMS)) for text in others)


@cache
def asked_forms() -> dict[str, str]:
    """The form that each of the suites' prompts asks for by its header."""
    by_header = {system(header)["content"]: form for header, form in MEMORIZED.items()}
    examples = [example for name in SUITES for example in lab_suite(name).test]
    return {example.id: by_header[example.messages[0]["content"]] for example in examples}


def _spread(folder: Path) -> float | None:
    """Points by which that share stands higher at the stream's end than of the base."""
    records = [RunDirectory(folder).responses(stage) for stage in (0, len(FORMS))]
    if not all(path.exists() for path in records):
        return None
    shares = []
    for path in records:
        kept = read_json(path)["answers"]
        shares.append(foreign_form({each["id"]: each["text"] for name in SUITES for each in kept[name]}, asked_forms()))
    before, after = shares
    return None if before is None or after is None else POINTS * (after - before)


def _amplified(found: Evidence) -> list[Quantity]:
    spread = {label: [_spread(folder) for folder in folders] for label, folders in found.folders.items()}

    def above(a: ClaimArm, b: ClaimArm) -> list[float | None]:
        return minus(spread[a.label], spread[b.label])

    name = "answers in a trained task's form where a known header asks for another"
    return [
        Quantity(f"{name}, gained by SDPO with EMA", "points", spread[SDPO.label], "Little spreads in so few steps."),
        Quantity(
            f"{name}, SDPO with EMA above a frozen teacher",
            "points",
            above(SDPO, SDPO_FROZEN),
            "An average of 5% and the student at a stage's start are nearly the same within a stage of the lab.",
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
            above(SDFT_FAST, SDFT_SLOW),
            "A fast teacher loses its skill before it spreads a form.",
        ),
    ]


ARTIFACTS: tuple[Claim, ...] = (
    Claim(
        name="artifacts-amplified",
        statement="The loop of a student and a teacher that follows it carries a task's form of answer to prompts that "
        "do not ask for it, more than a frozen teacher or rewards do.",
        source="arXiv 2607.01763",
        arms=(SDPO, SDPO_FROZEN, GRPO, SDFT_FAST, SDFT_SLOW),
        measure=_amplified,
    ),
)
