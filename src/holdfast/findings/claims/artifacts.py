"""Claims about an answer format that spreads to prompts that do not ask for it. Torch-free.

In the source, `\\boxed` from the mathematics stage appeared in the tool calls of the next stage. The lab's tasks have
formats too: numbers in brackets, calls in braces.
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
"""The answer formats of the stream's two tasks, in order."""

SUITES = ("old-skills", "old-facts", "instruction-format")
"""Suites whose prompts have headers that the base has memorized, each with the answer format that it asks for."""


def foreign_form(answers: Mapping[str, str], asked: Mapping[str, str]) -> float | None:
    """Share of answers in the format of a trained task, among prompts that ask for another format.

    An answer that lost its own format counts only if it took on a trained one.

    Args:
        answers: by prompt id.
        asked: the format that the prompt asks for, by prompt id.
    """
    others = [text for name, text in answers.items() if asked[name] not in FORMS]
    return mean(float(any(read(text, form) is not None for form in FORMS)) for text in others)


@cache
def asked_forms() -> dict[str, str]:
    """The format that each prompt of the suites asks for with its header, by prompt id."""
    by_header = {system(header)["content"]: form for header, form in MEMORIZED.items()}
    examples = [example for name in SUITES for example in lab_suite(name).test]
    return {example.id: by_header[example.messages[0]["content"]] for example in examples}


def _spread(folder: Path) -> float | None:
    """Increase of that share from the base to the end of the stream, in points."""
    records = [RunDirectory(folder).responses(stage) for stage in (0, len(FORMS))]
    if not all(path.exists() for path in records):
        return None
    shares = []
    for path in records:
        kept = read_json(path)["answers"]
        shares.append(foreign_form({each["id"]: each["text"] for name in SUITES for each in kept[name]}, asked_forms()))
    before, after = shares
    return None if before is None or after is None else POINTS * (after - before)


def _amplified(evidence: Evidence) -> list[Quantity]:
    spread = {label: [_spread(folder) for folder in folders] for label, folders in evidence.folders.items()}

    def above(a: ClaimArm, b: ClaimArm) -> list[float | None]:
        return minus(spread[a.label], spread[b.label])

    name = "answers in a trained task's format although a known header asks for another"
    return [
        Quantity(f"{name}, increase with SDPO (EMA)", "points", spread[SDPO.label], "So few steps spread little."),
        Quantity(
            f"{name}, SDPO (EMA) − SDPO (frozen)",
            "points",
            above(SDPO, SDPO_FROZEN),
            "Within a stage of the lab, a 5% EMA and the student at the start of the stage are nearly the same.",
        ),
        Quantity(
            f"{name}, SDPO (EMA) − GRPO",
            "points",
            above(SDPO, GRPO),
            "On the lab, any change to unseen headers carries over to all of them, whatever the recipe.",
        ),
        Quantity(
            f"{name}, SDFT (fast EMA) − SDFT (slow EMA)",
            "points",
            above(SDFT_FAST, SDFT_SLOW),
            "A fast teacher loses its skill before it spreads a format.",
        ),
    ]


ARTIFACTS: tuple[Claim, ...] = (
    Claim(
        name="artifacts-amplified",
        statement="A teacher that follows its student spreads a task's answer format to prompts that do not ask for "
        "it, more than a frozen teacher or rewards do.",
        source="arXiv 2607.01763",
        arms=(SDPO, SDPO_FROZEN, GRPO, SDFT_FAST, SDFT_SLOW),
        measure=_amplified,
    ),
)
