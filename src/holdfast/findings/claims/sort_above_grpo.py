"""References where no sample is right."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import GRPO_HARD, HARD_GROUP
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import STEPS_HARD

SORT = ClaimArm("sort-hard", {"name": "sort", "num_generations": HARD_GROUP}, STEPS_HARD)

CLAIM = Claim(
    name="sort-above-grpo",
    statement="If all samples of most groups are wrong, references weighted with a plan teach more than rewards alone.",
    source="SORT, arXiv 2605.11505",
    arms=(SORT, GRPO_HARD),
    preconditions=(
        success("steps-hard", at_most=0.15),
        success("steps-hard", "plan", at_least=0.6),
    ),
    quantities=(difference("score on the new task", RunRecord.learned, "sort-hard", "grpo-hard", smallest=3),),
    against="It teaches no more.",
)
