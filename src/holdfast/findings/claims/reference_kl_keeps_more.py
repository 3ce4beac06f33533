"""GRPO with a KL penalty to the base forgets less than without."""

from holdfast.findings.arms import GRPO, GRPO_KL
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="reference-kl-keeps-more",
    statement="GRPO with a KL penalty to the base forgets less than without.",
    source="arXiv 2509.04259; against it arXiv 2607.04364",
    arms=(GRPO, GRPO_KL),
    preconditions=(success("facts", at_least=0.1, at_most=0.5),),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "grpo", "grpo-kl", smallest=3),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            "grpo",
            "grpo-kl",
            unit="nats",
            smallest=0.02,
            decides=False,
        ),
        difference(
            "score on the new task", RunRecord.learned, "grpo-kl", "grpo", smallest=3, no_worse=True, decides=False
        ),
    ),
    against="It loses no less than grpo.",
)
