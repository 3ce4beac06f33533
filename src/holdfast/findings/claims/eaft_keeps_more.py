"""Weighting tokens by the entropy of the model's prediction forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more
from holdfast.findings.precondition import success
from holdfast.findings.stream import FACTS

EAFT = ClaimArm("eaft", "eaft", FACTS)

CLAIM = Claim(
    name="eaft-keeps-more",
    statement="Weighting tokens by the entropy of the model's prediction forgets less than SFT.",
    source="EAFT, arXiv 2601.02151",
    arms=(SFT, EAFT),
    preconditions=(success("facts", at_most=0.5),),
    quantities=keeps_more("eaft", than="sft"),
    against="SFT ends as high on both together.",
)
