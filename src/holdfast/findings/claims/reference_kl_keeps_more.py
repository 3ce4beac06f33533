"""GRPO with a KL penalty to the base forgets less than without."""

from holdfast.findings.arms import GRPO, GRPO_KL
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more
from holdfast.findings.precondition import success

CLAIM = Claim(
    name="reference-kl-keeps-more",
    statement="GRPO with a KL penalty to the base forgets less than without.",
    source="arXiv 2509.04259; against it arXiv 2607.04364",
    arms=(GRPO, GRPO_KL),
    preconditions=(success("facts", at_least=0.1, at_most=0.5),),
    quantities=keeps_more("grpo-kl", than="grpo"),
    against="GRPO without the penalty ends as high on both together.",
)
