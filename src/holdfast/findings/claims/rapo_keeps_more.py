"""Rewarding rollouts that stay near the previous stage's model forgets less than GRPO."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import GRPO_SEQUENCE
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import SEQUENCE

RAPO = ClaimArm("rapo", "rapo", SEQUENCE)

CLAIM = Claim(
    name="rapo-keeps-more",
    statement="Rewarding rollouts that stay near the previous stage's model forgets less than GRPO.",
    source="RaPO, arXiv 2605.09640",
    arms=(GRPO_SEQUENCE, RAPO),
    preconditions=(success("facts", at_least=0.1, at_most=0.5),),
    quantities=(
        difference(
            "score of all tasks and old skills at the end", RunRecord.overall, "rapo", "grpo@sequence", smallest=2
        ),
        difference("forgot of earlier tasks", RunRecord.forgot, "grpo@sequence", "rapo", smallest=3, decides=False),
        difference("lost on old skills", RunRecord.lost, "grpo@sequence", "rapo", smallest=3, decides=False),
        difference(
            "score on new tasks after their stages",
            RunRecord.learned,
            "rapo",
            "grpo@sequence",
            smallest=3,
            decides=False,
        ),
    ),
    against="At the end it is not better on all tasks and old skills together.",
)
