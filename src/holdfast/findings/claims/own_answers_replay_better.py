"""Replaying own correct answers keeps more than replaying demonstrations, in equal numbers."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import REPLAY_SEQUENCE
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import SEQUENCE

OPR = ClaimArm("opr", "opr", SEQUENCE)

CLAIM = Claim(
    name="own-answers-replay-better",
    statement="Replaying own correct answers keeps more than replaying demonstrations, in equal numbers.",
    source="On-policy replay, arXiv 2605.29495",
    arms=(REPLAY_SEQUENCE, OPR),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference(
            "score of all tasks and old skills at the end", RunRecord.overall, "opr", "replay@sequence", smallest=2
        ),
        difference("forgot of earlier tasks", RunRecord.forgot, "replay@sequence", "opr", smallest=3, decides=False),
        difference("lost on old skills", RunRecord.lost, "replay@sequence", "opr", smallest=3, decides=False),
        difference(
            "score on new tasks after their stages",
            RunRecord.learned,
            "opr",
            "replay@sequence",
            smallest=3,
            decides=False,
        ),
    ),
    against="At the end it is not better on all tasks and old skills together.",
)
