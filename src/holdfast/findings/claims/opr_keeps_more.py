"""Replaying the current model's own correct answers to earlier prompts forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT_SEQUENCE
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import SEQUENCE

OPR = ClaimArm("opr", "opr", SEQUENCE)

CLAIM = Claim(
    name="opr-keeps-more",
    statement="Replaying the current model's own correct answers to earlier prompts forgets less than SFT.",
    source="On-policy replay, arXiv 2605.29495, table 1",
    arms=(SFT_SEQUENCE, OPR),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference(
            "score of all tasks and old skills at the end", RunRecord.overall, "opr", "sft@sequence", smallest=2
        ),
        difference("forgot of earlier tasks", RunRecord.forgot, "sft@sequence", "opr", smallest=3, decides=False),
        difference("lost on old skills", RunRecord.lost, "sft@sequence", "opr", smallest=3, decides=False),
        difference(
            "score on new tasks after their stages", RunRecord.learned, "opr", "sft@sequence", smallest=3, decides=False
        ),
    ),
    against="At the end it is not better on all tasks and old skills together.",
)
