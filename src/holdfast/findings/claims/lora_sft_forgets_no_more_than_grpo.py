"""Rewards against an adapter."""

from holdfast.findings.arms import GRPO, SFT_ADAPTER
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import SMALLEST, TOGETHER
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="lora-sft-forgets-no-more-than-grpo",
    statement="GRPO does not forget less than SFT of an adapter does.",
    source="RL forgets!, arXiv 2607.04364, table 4",
    arms=(GRPO, SFT_ADAPTER),
    preconditions=(success("facts", at_least=0.1, at_most=0.5),),
    quantities=(
        difference(TOGETHER, RunRecord.overall, "sft-lora", "grpo", smallest=SMALLEST, no_worse=True),
        difference("kept old skills", RunRecord.kept, "sft-lora", "grpo", smallest=3, decides=False),
        difference("score on the new task", RunRecord.learned, "sft-lora", "grpo", smallest=3, decides=False),
    ),
    against="SFT of an adapter ends at least 2 points lower on both together.",
)
