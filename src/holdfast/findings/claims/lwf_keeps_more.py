"""Distilling the model at the start of the stage, at temperature 2 on new inputs, forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT_SEQUENCE
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more_over_stages
from holdfast.findings.precondition import success
from holdfast.findings.stream import SEQUENCE

LWF = ClaimArm(
    "lwf",
    {"name": "kl_sft", "beta": 1.0, "distillation_temperature": 2.0, "old_model": "stage_start"},
    SEQUENCE,
)

CLAIM = Claim(
    name="lwf-keeps-more",
    statement="Distilling the model at the start of the stage, at temperature 2 on new inputs, forgets less than SFT.",
    source="arXiv 1606.09282",
    arms=(SFT_SEQUENCE, LWF),
    preconditions=(success("facts", at_most=0.5),),
    quantities=keeps_more_over_stages("lwf", than="sft@sequence"),
    against="At the end it is not better on all tasks and old skills together.",
)
