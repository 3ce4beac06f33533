"""A quadratic penalty on each weight, scaled by its Fisher information on earlier data, forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT_SEQUENCE
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more_over_stages
from holdfast.findings.precondition import success
from holdfast.findings.stream import SEQUENCE

EWC = ClaimArm("ewc", "ewc", SEQUENCE)

CLAIM = Claim(
    name="ewc-keeps-more",
    statement="A quadratic penalty on each weight, scaled by its Fisher information on earlier data, forgets less "
    "than SFT.",
    source="arXiv 1612.00796",
    arms=(SFT_SEQUENCE, EWC),
    preconditions=(success("facts", at_most=0.5),),
    quantities=keeps_more_over_stages("ewc", than="sft@sequence"),
    against="At the end it is not better on all tasks and old skills together.",
)
