"""Rewards beside a weak teacher."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import GRPO_TOOLS
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import at_equal_tokens, difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import TOOLS

SDPG = ClaimArm("sdpg", {"name": "sdpg", "drop_equal_groups": False}, TOOLS)

CLAIM = Claim(
    name="sdpg-faster-than-grpo",
    statement="With a weak divergence to the privileged model, GRPO learns more in the same steps.",
    source="SDPG, arXiv 2606.04036",
    arms=(SDPG, GRPO_TOOLS),
    preconditions=(success("tools", "demonstration", at_least=0.8),),
    quantities=(
        difference("score on the new task", RunRecord.learned, "sdpg", "grpo@tools", smallest=3),
        at_equal_tokens("sdpg", "grpo@tools", "task"),
    ),
    against="It teaches no more.",
)
