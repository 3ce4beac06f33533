"""A KL to the base over all tokens but the target, beside the cross-entropy, forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS

TMKL = ClaimArm("tmkl", "tmkl", FACTS)

CLAIM = Claim(
    name="tmkl-keeps-more",
    statement="A KL to the base over all tokens but the target, beside the cross-entropy, forgets less than SFT.",
    source="Mask the target, arXiv 2605.29498",
    arms=(SFT, TMKL),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "sft", "tmkl", smallest=3),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            "sft",
            "tmkl",
            unit="nats",
            smallest=0.02,
            decides=False,
        ),
        difference("score on the new task", RunRecord.learned, "tmkl", "sft", smallest=3, no_worse=True, decides=False),
    ),
    against="It loses no less than sft.",
)
