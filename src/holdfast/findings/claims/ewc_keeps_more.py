"""A quadratic penalty on each weight, scaled by its Fisher information on earlier data, forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT_SEQUENCE
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import SEQUENCE

EWC = ClaimArm("ewc", "ewc", SEQUENCE)

CLAIM = Claim(
    name="ewc-keeps-more",
    statement="A quadratic penalty on each weight, scaled by its Fisher information on earlier data, forgets less "
    "than SFT.",
    source="arXiv 1612.00796",
    arms=(SFT_SEQUENCE, EWC),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference(
            "score of all tasks and old skills at the end", RunRecord.overall, "ewc", "sft@sequence", smallest=2
        ),
        difference("forgot of earlier tasks", RunRecord.forgot, "sft@sequence", "ewc", smallest=3, decides=False),
        difference("lost on old skills", RunRecord.lost, "sft@sequence", "ewc", smallest=3, decides=False),
        difference(
            "score on new tasks after their stages", RunRecord.learned, "ewc", "sft@sequence", smallest=3, decides=False
        ),
    ),
    against="At the end it is not better on all tasks and old skills together.",
)
