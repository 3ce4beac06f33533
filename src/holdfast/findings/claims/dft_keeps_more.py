"""Weighting each token by its own probability forgets less than SFT."""

from holdfast.findings.arms import DFT, SFT
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more
from holdfast.findings.precondition import success

CLAIM = Claim(
    name="dft-keeps-more",
    statement="Weighting each token by its own probability forgets less than SFT.",
    source="DFT, arXiv 2508.05629; arXiv 2509.20758",
    arms=(SFT, DFT),
    preconditions=(success("facts", at_most=0.5),),
    quantities=keeps_more("dft", than="sft"),
    against="SFT ends as high on both together.",
)
