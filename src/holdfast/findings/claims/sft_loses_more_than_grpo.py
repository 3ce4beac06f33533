"""RL's razor."""

from holdfast.findings.arms import GRPO, MIDDLE, SFT
from holdfast.findings.claim import Claim
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
        difference("lost on old skills", RunRecord.lost, "sft-0.0002", "grpo-0.0002", smallest=3),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            "sft-0.0002",
            "grpo-0.0002",
            unit="nats",
            smallest=0.02,
        ),
        difference("score on the new task", RunRecord.learned, "grpo-0.0002", "sft-0.0002", smallest=3, decides=False),
        difference(
            "score of the task and old skills, each at its best rate",
            RunRecord.overall,
            "grpo",
            "sft",
            smallest=2,
            decides=False,
        ),
        difference(
            "lost on old skills, each at its best rate", RunRecord.lost, "sft", "grpo", smallest=3, decides=False
        ),
        at_equal_tokens("grpo-0.0002", "sft-0.0002", "suites"),
    ),
    against="SFT loses no more than GRPO.",
    is_quick=True,
)
