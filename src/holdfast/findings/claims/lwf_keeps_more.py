"""Distilling the model at the start of the stage, at temperature 2 on new inputs, forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT_SEQUENCE
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
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
    quantities=(
        difference(
            "score of all tasks and old skills at the end", RunRecord.overall, "lwf", "sft@sequence", smallest=2
        ),
        difference("forgot of earlier tasks", RunRecord.forgot, "sft@sequence", "lwf", smallest=3, decides=False),
        difference("lost on old skills", RunRecord.lost, "sft@sequence", "lwf", smallest=3, decides=False),
        difference(
            "score on new tasks after their stages", RunRecord.learned, "lwf", "sft@sequence", smallest=3, decides=False
        ),
    ),
    against="At the end it is not better on all tasks and old skills together.",
)
