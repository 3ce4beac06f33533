"""How much of the solution to show: learned."""

from typing import Any

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import (
    OPSD_STEPS,
)
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import STEPS


def _shown(label: str, **settings: Any) -> ClaimArm:
    return ClaimArm(label, {"name": "atesd", "clip": "token", "keep_answer": False, **settings}, STEPS)


LEARNED, QUARTER, HALF = (
    _shown("atesd", hold=2),
    _shown("exposure-0.25", exposure=0.25),
    _shown("exposure-0.5", exposure=0.5),
)

CLAIM = Claim(
    name="exposure-learned-above-fixed",
    statement="Learning how much of a solution the teacher sees teaches more than any fixed part in the same number "
    "of steps.",
    source="ATESD, arXiv 2605.11458",
    arms=(LEARNED, QUARTER, HALF, OPSD_STEPS),
    preconditions=(success("steps", "solution", at_least=0.8), success("steps", at_most=0.5)),
    quantities=(
        difference("score on the new task", RunRecord.learned, "atesd", "exposure-0.25", smallest=3),
        difference("score on the new task", RunRecord.learned, "atesd", "exposure-0.5", smallest=3),
        difference("score on the new task", RunRecord.learned, "atesd", "opsd", smallest=3),
    ),
    against="A fixed part teaches as much.",
)
