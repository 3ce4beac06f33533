"""Claims about how much of a solution the teacher should see, on the step questions of the wider lab. Torch-free."""

from pathlib import Path
from typing import Any

from holdfast.findings.claim import Claim, ClaimArm, Evidence, Quantity, minus
from holdfast.findings.claims.wide import LONGER, OPSD, STEPS
from holdfast.findings.read import metric
from holdfast.store.run_directory import RunDirectory


def _shown(label: str, *, keep_answer: bool = False, **settings: Any) -> ClaimArm:
    # Like the arm of OPSD. The lab's base can continue a partial solution, but cannot fill a gap in one.
    recipe = {"name": "atesd", "clip": "token", "keep_answer": keep_answer, **settings}
    return ClaimArm(label, recipe, {**STEPS, "eval.probe_steps": 0}, LONGER)


LEARNED = _shown("atesd", hold=2)

QUARTER = _shown("exposure-0.25", exposure=0.25)

HALF = _shown("exposure-0.5", exposure=0.5)

ANSWER_ALONE = _shown("answer-alone", exposure=0.0, keep_answer=True)

FIXED = {"a quarter": QUARTER, "a half": HALF, "the whole": OPSD}

learned = metric("learned_score")


def _mismatch(folder: Path) -> float | None:
    """KL(student‖teacher) in a run's first step, before either has changed; nats per token."""
    return next((record["kl_teacher"] for record in RunDirectory(folder).records("metrics.jsonl")), None)


def _learned_above_fixed(evidence: Evidence) -> list[Quantity]:
    few = "A stage has about 20 exposures, which move a policy that starts at one half only a little."
    return [
        Quantity(
            f"score on the task after its stage, learned exposure − {part}",
            "points",
            evidence.difference(LEARNED.label, arm.label, learned),
            few,
        )
        for part, arm in FIXED.items()
    ]


def _whole_is_not_best(evidence: Evidence) -> list[Quantity]:
    mismatch = {arm.label: [_mismatch(folder) for folder in evidence.folders[arm.label]] for arm in FIXED.values()}
    further = [
        Quantity(
            f"KL(student‖teacher) in the first step, {more} − {less}",
            "nats",
            minus(mismatch[FIXED[more].label], mismatch[FIXED[less].label]),
            "The model may read a part of a solution as another question.",
        )
        for less, more in (("a quarter", "a half"), ("a half", "the whole"))
    ]
    reached = "on the lab, the student can follow a teacher with the whole solution, because each step is easy for it."
    return [
        *further,
        *(
            Quantity(
                f"score on the task after its stage, {part} − the whole",
                "points",
                evidence.difference(FIXED[part].label, OPSD.label, learned),
                f"In so few steps, {part} of a solution teaches little, or the whole solution does.",
                reached,
            )
            for part in ("a quarter", "a half")
        ),
    ]


EXPOSURE: tuple[Claim, ...] = (
    Claim(
        name="exposure-learned-above-fixed",
        statement="Learning how much of a solution the teacher sees teaches more than any fixed part in the same "
        "number of steps. Learning it needs additional samples.",
        source="arXiv 2605.11458",
        arms=(LEARNED, *FIXED.values()),
        measure=_learned_above_fixed,
    ),
    Claim(
        name="whole-solution-not-best",
        statement="The more of the solution the teacher sees, the further it is from the student. Showing all of it is "
        "not best.",
        source="arXiv 2605.11458",
        arms=tuple(FIXED.values()),
        measure=_whole_is_not_best,
    ),
)
