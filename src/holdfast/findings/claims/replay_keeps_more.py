"""Mixing in 10% demonstrations of earlier tasks forgets less than SFT."""

from holdfast.findings.arms import REPLAY_SEQUENCE, SFT_SEQUENCE
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more_over_stages
from holdfast.findings.precondition import success

CLAIM = Claim(
    name="replay-keeps-more",
    statement="Mixing in 10% demonstrations of earlier tasks forgets less than SFT.",
    source="arXiv 1902.10486",
    arms=(SFT_SEQUENCE, REPLAY_SEQUENCE),
    preconditions=(success("facts", at_most=0.5),),
    quantities=keeps_more_over_stages("replay@sequence", than="sft@sequence"),
    against="At the end it is not better on all tasks and old skills together.",
)
