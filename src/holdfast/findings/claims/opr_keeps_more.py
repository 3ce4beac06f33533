"""Replaying the current model's own correct answers to earlier prompts forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT_SEQUENCE
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more_over_stages
from holdfast.findings.precondition import success
from holdfast.findings.stream import SEQUENCE

OPR = ClaimArm("opr", "opr", SEQUENCE)

CLAIM = Claim(
    name="opr-keeps-more",
    statement="Replaying the current model's own correct answers to earlier prompts forgets less than SFT.",
    source="On-policy replay, arXiv 2605.29495, table 1",
    arms=(SFT_SEQUENCE, OPR),
    preconditions=(success("facts", at_most=0.5),),
    quantities=keeps_more_over_stages("opr", than="sft@sequence"),
    against="At the end it is not better on all tasks and old skills together.",
)
