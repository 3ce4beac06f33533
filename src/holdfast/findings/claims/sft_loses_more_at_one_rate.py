"""SFT, self-distillation and rewards at one learning rate."""

from holdfast.findings.arm import RATES
from holdfast.findings.arms import GRPO, SDFT, SFT
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord

MIDDLE = RATES[1]

CLAIM = Claim(
    name="sft-loses-more-at-one-rate",
    statement="At the same learning rate, SFT on demonstrations in a foreign voice loses more than SDFT and GRPO do, and "
    "SDFT learns no less than SFT.",
    source="SDFT, arXiv 2601.19897; RL's razor, arXiv 2509.04259",
    arms=(SFT.at(MIDDLE), SDFT.at(MIDDLE), GRPO.at(MIDDLE)),
    preconditions=(
        success("facts", "demonstration", at_least=0.8),
        success("facts", at_least=0.1, at_most=0.5),
    ),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "sft-0.0002", "sdft-0.0002", smallest=3),
        difference("lost on old skills", RunRecord.lost, "sft-0.0002", "grpo-0.0002", smallest=3),
        difference("score on the new task", RunRecord.learned, "sdft-0.0002", "sft-0.0002", smallest=3, no_worse=True),
        difference("score on the new task", RunRecord.learned, "grpo-0.0002", "sft-0.0002", smallest=3, decides=False),
    ),
    against="SFT loses no more than one of them, or SDFT learns at least 3 points less.",
    note="The claims about SFT against SDFT and GRPO give each recipe the rate at which it ends best. SFT's is the "
    "lowest, since it loses most at higher ones, so they compare recipes that learn differently much. This claim was "
    "added when two worlds of those were measured, and before any run of its own.",
)
