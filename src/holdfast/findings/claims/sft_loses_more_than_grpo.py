"""RL's razor."""

from holdfast.findings.arms import GRPO, SFT
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import at_equal_tokens, difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="sft-loses-more-than-grpo",
    statement="Learning from rewards loses less of what the model could do than imitating demonstrations does.",
    source="RL's razor, arXiv 2509.04259, figure 1; arXiv 2510.18874",
    arms=(SFT, GRPO),
    preconditions=(success("facts", at_least=0.1, at_most=0.5),),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "sft", "grpo", smallest=3),
        difference("KL to the base on old prompts", RunRecord.kl_on_old, "sft", "grpo", unit="nats", smallest=0.02),
        at_equal_tokens("grpo", "sft", "suites"),
    ),
    against="SFT loses no more than GRPO.",
    is_quick=True,
)
