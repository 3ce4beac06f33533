"""Imitating own correct samples, drawn again at each step, forgets less than imitating demonstrations."""

from holdfast.findings.arms import RFT, SFT
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="own-samples-keep-more",
    statement="Imitating own correct samples, drawn again at each step, forgets less than imitating demonstrations.",
    source="arXiv 2510.18874",
    arms=(SFT, RFT),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "sft", "rft", smallest=3),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            "sft",
            "rft",
            unit="nats",
            smallest=0.02,
            decides=False,
        ),
        difference("score on the new task", RunRecord.learned, "rft", "sft", smallest=3, no_worse=True, decides=False),
    ),
    against="It loses no less than sft.",
)
