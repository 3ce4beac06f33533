"""SFT with a KL penalty to the base forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more
from holdfast.findings.precondition import success
from holdfast.findings.stream import FACTS

KL_SFT = ClaimArm("kl-sft", "kl_sft", FACTS)

CLAIM = Claim(
    name="kl-sft-keeps-more",
    statement="SFT with a KL penalty to the base forgets less than SFT.",
    source="arXiv 1606.09282; arXiv 2509.04259",
    arms=(SFT, KL_SFT),
    preconditions=(success("facts", at_most=0.5),),
    quantities=keeps_more("kl-sft", than="sft"),
    against="SFT ends as high on both together.",
)
