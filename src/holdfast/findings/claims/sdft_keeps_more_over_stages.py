"""SDFT over a stream."""

from holdfast.findings.arms import SDFT_SEQUENCE, SFT_SEQUENCE
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more_over_stages
from holdfast.findings.precondition import success

CLAIM = Claim(
    name="sdft-keeps-more-over-stages",
    statement="Over three tasks, SDFT ends with higher scores on all tasks and old skills than SFT.",
    source="SDFT, arXiv 2601.19897, figure 4",
    arms=(SFT_SEQUENCE, SDFT_SEQUENCE),
    preconditions=(success("facts", "demonstration", at_least=0.8), success("tools", "demonstration", at_least=0.8)),
    quantities=keeps_more_over_stages("sdft@sequence", than="sft@sequence"),
    against="SFT ends as high.",
    is_quick=True,
)
