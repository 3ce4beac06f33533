"""Replaying own correct answers keeps more than replaying demonstrations, in equal numbers."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import REPLAY_SEQUENCE
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more_over_stages
from holdfast.findings.precondition import success
from holdfast.findings.stream import SEQUENCE

OPR = ClaimArm("opr", "opr", SEQUENCE)

CLAIM = Claim(
    name="own-answers-replay-better",
    statement="Replaying own correct answers keeps more than replaying demonstrations, in equal numbers.",
    source="On-policy replay, arXiv 2605.29495",
    arms=(REPLAY_SEQUENCE, OPR),
    preconditions=(success("facts", at_most=0.5),),
    quantities=keeps_more_over_stages("opr", than="replay@sequence"),
    against="At the end it is not better on all tasks and old skills together.",
)
