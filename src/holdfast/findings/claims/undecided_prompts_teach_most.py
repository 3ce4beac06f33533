"""Weights of prompts."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SDPO_TOOLS
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import TOOLS

SC_SDPO = ClaimArm("sc-sdpo", {"name": "sc_sdpo", "stage_start": "student"}, TOOLS)

CLAIM = Claim(
    name="undecided-prompts-teach-most",
    statement="SDPO learns more if prompts are weighted by the student's uncertainty.",
    source="SC-SDPO, arXiv 2605.27765",
    arms=(SC_SDPO, SDPO_TOOLS),
    preconditions=(success("tools", at_least=0.1, at_most=0.5),),
    quantities=(difference("score on the new task", RunRecord.learned, "sc-sdpo", "sdpo@tools", smallest=3),),
    against="It teaches no more.",
)
