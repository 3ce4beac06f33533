"""How much of the solution to show: fixed."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import OPSD_STEPS
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import Quantity, WorldRuns
from holdfast.findings.stream import STEPS

QUARTER = ClaimArm("exposure-0.25", {"name": "atesd", "clip": "token", "keep_answer": False, "exposure": 0.25}, STEPS)

HALF = ClaimArm("exposure-0.5", {"name": "atesd", "clip": "token", "keep_answer": False, "exposure": 0.5}, STEPS)


def _best_part(runs: WorldRuns) -> float | None:
    parts = [runs[label].learned() for label in ("exposure-0.25", "exposure-0.5")]
    whole = runs["opsd"].learned()
    known = [part for part in parts if part is not None]
    return None if whole is None or not known else max(known) - whole


CLAIM = Claim(
    name="whole-solution-not-best",
    statement="Showing the teacher the whole solution is not best.",
    source="ATESD, arXiv 2605.11458",
    arms=(QUARTER, HALF, OPSD_STEPS),
    preconditions=(success("steps", "solution", at_least=0.8), success("steps", "half of the solution", at_least=0.3)),
    quantities=(Quantity("score on the new task, the better part − the whole", "points", _best_part, 3),),
    against="The whole solution teaches more than a quarter and a half of it.",
)
