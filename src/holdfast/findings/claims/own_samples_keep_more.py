"""Imitating own correct samples, drawn again at each step, forgets less than imitating demonstrations."""

from holdfast.findings.arms import RFT, SFT
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more
from holdfast.findings.precondition import success

CLAIM = Claim(
    name="own-samples-keep-more",
    statement="Imitating own correct samples, drawn again at each step, forgets less than imitating demonstrations.",
    source="arXiv 2510.18874",
    arms=(SFT, RFT),
    preconditions=(success("facts", at_most=0.5),),
    quantities=keeps_more("rft", than="sft"),
    against="SFT ends as high on both together.",
)
