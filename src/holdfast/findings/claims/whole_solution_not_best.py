"""How much of the solution to show: fixed."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import OPSD_STEPS
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import STEPS

QUARTER = ClaimArm("exposure-0.25", {"name": "atesd", "clip": "token", "keep_answer": False, "exposure": 0.25}, STEPS)

HALF = ClaimArm("exposure-0.5", {"name": "atesd", "clip": "token", "keep_answer": False, "exposure": 0.5}, STEPS)


CLAIM = Claim(
    name="whole-solution-not-best",
    statement="Showing the teacher the whole solution is not best: half of it teaches more.",
    source="ATESD, arXiv 2605.11458",
    arms=(QUARTER, HALF, OPSD_STEPS),
    preconditions=(success("steps", "solution", at_least=0.8), success("steps", "half of the solution", at_least=0.3)),
    quantities=(
        # Half was named before the runs. The better of two parts would be above the whole by its luck alone.
        difference("score on the new task", RunRecord.learned, "exposure-0.5", "opsd", smallest=3),
        difference("score on the new task", RunRecord.learned, "exposure-0.25", "opsd", smallest=3, decides=False),
    ),
    against="Half of the solution teaches no more.",
)
