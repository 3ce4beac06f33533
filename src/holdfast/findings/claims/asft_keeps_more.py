"""DFT with a KL to the base forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more
from holdfast.findings.precondition import success
from holdfast.findings.stream import FACTS

ASFT = ClaimArm("asft", "asft", FACTS)

CLAIM = Claim(
    name="asft-keeps-more",
    statement="DFT with a KL to the base forgets less than SFT.",
    source="ASFT, as released in LLaMA-Factory",
    arms=(SFT, ASFT),
    preconditions=(success("facts", at_most=0.5),),
    quantities=keeps_more("asft", than="sft"),
    against="SFT ends as high on both together.",
)
