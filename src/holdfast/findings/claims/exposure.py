"""Claims about how much of a solution the teacher should see, on the wider lab's questions in steps. Torch-free."""

from pathlib import Path
from typing import Any

from holdfast.findings.claim import Claim, ClaimArm, Evidence, Quantity, minus
from holdfast.findings.claims.wide import LONGER, OPSD, STEPS
from holdfast.findings.read import metric
from holdfast.store.run_directory import RunDirectory


def _shown(label: str, *, keep_answer: bool = False, **settings: Any) -> ClaimArm:
    # As OPSD's arm; the lab's base knows a solution's first part, and not a gap in it.
    recipe = {"name": "atesd", "clip": "token", "keep_answer": keep_answer, **settings}
    return ClaimArm(label, recipe, {**STEPS, "eval.probe_steps": 0}, LONGER)


LEARNED = _shown("atesd", hold=2)

QUARTER = _shown("exposure-0.25", exposure=0.25)

HALF = _shown("exposure-0.5", exposure=0.5)

ANSWER_ALONE = _shown("answer-alone", exposure=0.0, keep_answer=True)

FIXED = {"a quarter": QUARTER, "a half": HALF, "the whole": OPSD}

learned = metric("learned_score")


def _mismatch(folder: Path) -> float | None:
    """KL(student‖teacher) in a run's first step, before either has moved."""
    return next((record["kl_teacher"] for record in RunDirectory(folder).records("metrics.jsonl")), None)


def _learned_above_fixed(found: Evidence) -> list[Quantity]:
    few = "A stage holds some twenty exposures, which take a policy that begins at a half little further."
    return [
        Quantity(
            f"the task right after its stage, learned exposure above {part}",
            "points",
            found.difference(LEARNED.label, arm.label, learned),
            few,
        )
        for part, arm in FIXED.items()
    ]


def _whole_is_not_best(found: Evidence) -> list[Quantity]:
    mismatch = {arm.label: [_mismatch(folder) for folder in found.folders[arm.label]] for arm in FIXED.values()}
    further = [
        Quantity(
            f"KL of student to teacher in the first step, {more} above {less}",
            "nats",
            minus(mismatch[FIXED[more].label], mismatch[FIXED[less].label]),
            "A part of a solution may be read as another question.",
        )
        for less, more in (("a quarter", "a half"), ("a half", "the whole"))
    ]
    reached = "the lab's student can follow a whole solution's teacher: each step is within its reach."
    return [
        *further,
        *(
            Quantity(
                f"the task right after its stage, {part} above the whole",
                "points",
                found.difference(FIXED[part].label, OPSD.label, learned),
                f"In so few steps {part} of a solution teaches little, or the whole does.",
                reached,
            )
            for part in ("a quarter", "a half")
        ),
    ]


EXPOSURE: tuple[Claim, ...] = (
    Claim(
        name="exposure-learned-above-fixed",
        statement="Learning how much of a solution the teacher sees teaches more than any part fixed beforehand, in as "
        "many steps; what is sampled to learn it comes on top.",
        source="arXiv 2605.11458",
        arms=(LEARNED, *FIXED.values()),
        measure=_learned_above_fixed,
    ),
    Claim(
        name="whole-solution-not-best",
        statement="The more of the solution the teacher sees the further it is from the student, and all of it is not "
        "best.",
        source="arXiv 2605.11458",
        arms=tuple(FIXED.values()),
        measure=_whole_is_not_best,
    ),
)
