"""The main claim of the paper on dense supervision."""

from holdfast.findings.arms import GRPO_TOOLS, SDPO_TOOLS
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import at_equal_tokens, difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="sdpo-forgets-more-than-grpo",
    statement="Dense supervision by a teacher that follows the student forgets more than sparse rewards do.",
    source="Denser is not better, arXiv 2607.01763, table 2",
    arms=(SDPO_TOOLS, GRPO_TOOLS),
    preconditions=(
        success("tools", at_least=0.1, at_most=0.5),
        success("tools", "a sample that succeeded", at_least=0.8),
    ),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "sdpo@tools", "grpo@tools", smallest=3),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            "sdpo@tools",
            "grpo@tools",
            unit="nats",
            smallest=0.02,
            decides=False,
        ),
        difference(
            "relative change of the weights",
            RunRecord.drift,
            "sdpo@tools",
            "grpo@tools",
            unit="%",
            smallest=0.2,
            decides=False,
        ),
        at_equal_tokens("grpo@tools", "sdpo@tools", "suites"),
    ),
    against="GRPO loses as much.",
    note="The verifier judges content alone, so GRPO's form may drift by chance. It is counted as a loss.",
    is_quick=True,
)
