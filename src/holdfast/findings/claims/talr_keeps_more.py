"""Weighting tokens by a power of their probability, with the batch's own temperature, forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more
from holdfast.findings.precondition import success
from holdfast.findings.stream import FACTS

TALR = ClaimArm("talr", "talr", FACTS)

CLAIM = Claim(
    name="talr-keeps-more",
    statement="Weighting tokens by a power of their probability, with the batch's own temperature, forgets less "
    "than SFT.",
    source="TALR, arXiv 2509.20758",
    arms=(SFT, TALR),
    preconditions=(success("facts", at_most=0.5),),
    quantities=keeps_more("talr", than="sft"),
    against="SFT ends as high on both together.",
)
