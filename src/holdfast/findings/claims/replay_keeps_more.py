"""Mixing in 10% demonstrations of earlier tasks forgets less than SFT."""

from holdfast.findings.arms import REPLAY_SEQUENCE, SFT_SEQUENCE
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="replay-keeps-more",
    statement="Mixing in 10% demonstrations of earlier tasks forgets less than SFT.",
    source="arXiv 1902.10486",
    arms=(SFT_SEQUENCE, REPLAY_SEQUENCE),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference(
            "score of all tasks and old skills at the end",
            RunRecord.overall,
            "replay@sequence",
            "sft@sequence",
            smallest=2,
        ),
        difference(
            "forgot of earlier tasks", RunRecord.forgot, "sft@sequence", "replay@sequence", smallest=3, decides=False
        ),
        difference("lost on old skills", RunRecord.lost, "sft@sequence", "replay@sequence", smallest=3, decides=False),
        difference(
            "score on new tasks after their stages",
            RunRecord.learned,
            "replay@sequence",
            "sft@sequence",
            smallest=3,
            decides=False,
        ),
    ),
    against="At the end it is not better on all tasks and old skills together.",
)
