"""Revising own answers."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import RFT_TOOLS
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import at_equal_tokens, difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import TOOLS

SD_ZERO = ClaimArm("sd-zero", "sd_zero", TOOLS)

CLAIM = Claim(
    name="sd-zero-above-rft",
    statement="Learning to revise, then distilling the reviser, learns more from rewards than imitating correct "
    "samples.",
    source="SD-Zero, arXiv 2604.12002",
    arms=(SD_ZERO, RFT_TOOLS),
    preconditions=(success("tools", at_least=0.1, at_most=0.5),),
    quantities=(
        difference("score on the new task", RunRecord.learned, "sd-zero", "rft@tools", smallest=3),
        at_equal_tokens("sd-zero", "rft@tools", "task"),
    ),
    against="It teaches no more.",
    note="SD-Zero draws one sample per prompt, and RFT four. Whether the base can revise is not measured before, since "
    "SD-Zero's first phase teaches it to.",
)
