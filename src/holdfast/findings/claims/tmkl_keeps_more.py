"""A KL to the base over all tokens but the target, beside the cross-entropy, forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more
from holdfast.findings.precondition import success
from holdfast.findings.stream import FACTS

TMKL = ClaimArm("tmkl", "tmkl", FACTS)

CLAIM = Claim(
    name="tmkl-keeps-more",
    statement="A KL to the base over all tokens but the target, beside the cross-entropy, forgets less than SFT.",
    source="Mask the target, arXiv 2605.29498",
    arms=(SFT, TMKL),
    preconditions=(success("facts", at_most=0.5),),
    quantities=keeps_more("tmkl", than="sft"),
    against="SFT ends as high on both together.",
)
