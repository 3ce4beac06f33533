"""Weighting tokens by a power of their probability, with the batch's own temperature, forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS

TALR = ClaimArm("talr", "talr", FACTS)

CLAIM = Claim(
    name="talr-keeps-more",
    statement="Weighting tokens by a power of their probability, with the batch's own temperature, forgets less "
    "than SFT.",
    source="TALR, arXiv 2509.20758",
    arms=(SFT, TALR),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "sft", "talr", smallest=3),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            "sft",
            "talr",
            unit="nats",
            smallest=0.02,
            decides=False,
        ),
        difference("score on the new task", RunRecord.learned, "talr", "sft", smallest=3, no_worse=True, decides=False),
    ),
    against="It loses no less than sft.",
)
