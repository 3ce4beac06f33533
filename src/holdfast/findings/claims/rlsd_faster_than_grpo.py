"""Rewards scaled by a teacher."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import GRPO_TOOLS
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import at_equal_tokens, difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import TOOLS

RLSD = ClaimArm("rlsd", "rlsd", TOOLS)

CLAIM = Claim(
    name="rlsd-faster-than-grpo",
    statement="With the reward for the direction and a teacher for the magnitude, RLSD learns more than GRPO in the "
    "same steps.",
    source="RLSD, arXiv 2604.03128",
    arms=(RLSD, GRPO_TOOLS),
    preconditions=(success("tools", "demonstration", at_least=0.8),),
    quantities=(
        difference("score on the new task", RunRecord.learned, "rlsd", "grpo@tools", smallest=3),
        at_equal_tokens("rlsd", "grpo@tools", "task"),
    ),
    against="It teaches no more.",
)
