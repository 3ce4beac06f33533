"""SFT with a KL penalty to the base forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS

KL_SFT = ClaimArm("kl-sft", "kl_sft", FACTS)

CLAIM = Claim(
    name="kl-sft-keeps-more",
    statement="SFT with a KL penalty to the base forgets less than SFT.",
    source="arXiv 1606.09282; arXiv 2509.04259",
    arms=(SFT, KL_SFT),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "sft", "kl-sft", smallest=3),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            "sft",
            "kl-sft",
            unit="nats",
            smallest=0.02,
            decides=False,
        ),
        difference(
            "score on the new task", RunRecord.learned, "kl-sft", "sft", smallest=3, no_worse=True, decides=False
        ),
    ),
    against="It loses no less than sft.",
)
