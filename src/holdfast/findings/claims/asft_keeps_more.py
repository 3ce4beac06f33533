"""DFT with a KL to the base forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS

ASFT = ClaimArm("asft", "asft", FACTS)

CLAIM = Claim(
    name="asft-keeps-more",
    statement="DFT with a KL to the base forgets less than SFT.",
    source="ASFT, as released in LLaMA-Factory",
    arms=(SFT, ASFT),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "sft", "asft", smallest=3),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            "sft",
            "asft",
            unit="nats",
            smallest=0.02,
            decides=False,
        ),
        difference("score on the new task", RunRecord.learned, "asft", "sft", smallest=3, no_worse=True, decides=False),
    ),
    against="It loses no less than sft.",
)
