"""Going back after a stall."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import GRPO_HARD, HARD_GROUP
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import STEPS_HARD

# The entropy of the lab's samples does not fall within a stage, so a stall of the reward alone is the trigger.
AUTO_NPO = ClaimArm(
    "auto-npo-hard", {"name": "auto_npo", "num_generations": HARD_GROUP, "entropy_share": None}, STEPS_HARD
)

CLAIM = Claim(
    name="auto-npo-above-grpo",
    statement="If GRPO stalls, returning to an earlier step with later correct answers takes it further in the same "
    "number of steps. Repeated steps are not counted.",
    source="AutoNPO, arXiv 2604.20733",
    arms=(AUTO_NPO, GRPO_HARD),
    preconditions=(success("steps-hard", at_least=0.01, at_most=0.15),),
    quantities=(difference("score on the new task", RunRecord.learned, "auto-npo-hard", "grpo-hard", smallest=3),),
    against="It teaches no more.",
)
