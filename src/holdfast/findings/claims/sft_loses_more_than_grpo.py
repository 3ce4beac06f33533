"""RL's razor."""

from holdfast.findings.arms import GRPO, MIDDLE, SFT
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import at_best_rates, lost_less
from holdfast.findings.precondition import success
from holdfast.findings.quantity import at_equal_tokens, difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="sft-loses-more-than-grpo",
    statement="At the same learning rate, learning from rewards loses less of what the model could do than imitating "
    "demonstrations does.",
    source="RL's razor, arXiv 2509.04259, figure 1; arXiv 2510.18874",
    arms=(SFT.at(MIDDLE), GRPO.at(MIDDLE), SFT, GRPO),
    preconditions=(success("facts", at_least=0.1, at_most=0.5),),
    quantities=(
        *lost_less("grpo-0.0002", than="sft-0.0002"),
        difference("score on the new task", RunRecord.learned, "grpo-0.0002", "sft-0.0002", smallest=3, decides=False),
        *at_best_rates("grpo", than="sft"),
        at_equal_tokens("grpo-0.0002", "sft-0.0002", "suites"),
    ),
    against="SFT loses no more than GRPO.",
    is_quick=True,
)
