"""SDFT over a stream."""

from holdfast.findings.arms import SDFT_SEQUENCE, SFT_SEQUENCE
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="sdft-keeps-more-over-stages",
    statement="Over three tasks, SDFT ends with higher scores on all tasks and old skills than SFT.",
    source="SDFT, arXiv 2601.19897, figure 4",
    arms=(SFT_SEQUENCE, SDFT_SEQUENCE),
    preconditions=(success("facts", "demonstration", at_least=0.8), success("tools", "demonstration", at_least=0.8)),
    quantities=(
        difference(
            "score of all tasks and old skills at the end",
            RunRecord.overall,
            "sdft@sequence",
            "sft@sequence",
            smallest=2,
        ),
        difference(
            "forgot of earlier tasks", RunRecord.forgot, "sft@sequence", "sdft@sequence", smallest=3, decides=False
        ),
        difference("lost on old skills", RunRecord.lost, "sft@sequence", "sdft@sequence", smallest=3, decides=False),
    ),
    against="SFT ends as high.",
    is_quick=True,
)
