"""What a score costs in tokens."""

import math

from holdfast.findings.arm import ClaimArm
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import Quantity, WorldRuns, single
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import STEPS

SCORE = 0.6

OPSD_COUNTED = ClaimArm("opsd-counted", {"name": "opsd", "clip": "token"}, STEPS, {"eval.probe_steps": 5, "suites": []})

GRPO_COUNTED = ClaimArm("grpo-steps-counted", "grpo", STEPS, {"eval.probe_steps": 5, "suites": []})


def _saved(runs: WorldRuns) -> float | None:
    """log2 of GRPO's tokens over OPSD's until the score.

    If GRPO never reaches it, all its tokens count, fewer than it would need. If OPSD never does, there is no value: one
    sample per prompt costs less than eight, whatever it teaches.
    """
    if not runs["opsd-counted"].reaches(SCORE):
        return None
    spent = []
    for label in ("grpo-steps-counted", "opsd-counted"):
        run = runs[label]
        steps = run.steps_to(SCORE)
        whole = run.data["spent"]
        spent.append(None if steps is None else steps * whole["generated_tokens"] / max(1, whole["optimizer_steps"]))
    grpo, opsd = spent
    return math.log2(grpo / opsd) if grpo and opsd else None


def _above(run: RunRecord) -> float | None:
    score = run.learned()
    return None if score is None else score - 100 * SCORE


CLAIM = Claim(
    name="opsd-fewer-tokens",
    statement="OPSD with one sample per prompt reaches a score with fewer generated tokens than GRPO with eight.",
    source="OPSD, arXiv 2601.18734, table 3",
    arms=(OPSD_COUNTED, GRPO_COUNTED),
    preconditions=(success("steps", "solution", at_least=0.8), success("steps", at_least=0.02, at_most=0.5)),
    quantities=(
        Quantity("log2 of generated tokens to 60 points, GRPO / OPSD", "", _saved, 0.5),
        single("OPSD's score after the stage − 60 points", _above, "opsd-counted", smallest=3, decides=False),
    ),
    against="GRPO needs as few, or OPSD does not reach the score.",
)
