"""SDPO's main claim."""

from holdfast.findings.arms import GRPO_TOOLS, SDPO_TOOLS
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import at_equal_tokens, difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="sdpo-learns-faster-than-grpo",
    statement="In the same steps on the same prompts, SDPO learns more from its own successes than GRPO learns from "
    "the rewards.",
    source="SDPO, arXiv 2601.20802, figure 1",
    arms=(SDPO_TOOLS, GRPO_TOOLS),
    preconditions=(
        success("tools", at_least=0.1, at_most=0.5),
        success("tools", "a sample that succeeded", at_least=0.8),
    ),
    quantities=(
        difference("score on the new task", RunRecord.learned, "sdpo@tools", "grpo@tools", smallest=3),
        at_equal_tokens("sdpo@tools", "grpo@tools", "task"),
    ),
    against="GRPO's score is as high after the same steps.",
    is_quick=True,
)
