"""A quadratic penalty on each weight, scaled by its Fisher information on earlier data, forgets less than SFT."""

from holdfast.findings.arm import Arm
from holdfast.findings.arms import SFT_SEQUENCE
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import Record
from holdfast.findings.stream import SEQUENCE

EWC = Arm("ewc", "ewc", SEQUENCE)

CLAIM = Claim(
    name="ewc-keeps-more",
    statement="A quadratic penalty on each weight, scaled by its Fisher information on earlier data, forgets less "
    "than SFT.",
    source="arXiv 1612.00796",
    arms=(SFT_SEQUENCE, EWC),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference("score of all tasks and old skills at the end", Record.overall, "ewc", "sft@sequence", smallest=2),
        difference("forgot of earlier tasks", Record.forgot, "sft@sequence", "ewc", smallest=3, decides=False),
        difference("lost on old skills", Record.lost, "sft@sequence", "ewc", smallest=3, decides=False),
        difference(
            "score on new tasks after their stages", Record.learned, "ewc", "sft@sequence", smallest=3, decides=False
        ),
    ),
    against="At the end it is not better on all tasks and old skills together.",
)
