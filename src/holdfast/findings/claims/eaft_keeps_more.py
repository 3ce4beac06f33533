"""Weighting tokens by the entropy of the model's prediction forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS

EAFT = ClaimArm("eaft", "eaft", FACTS)

CLAIM = Claim(
    name="eaft-keeps-more",
    statement="Weighting tokens by the entropy of the model's prediction forgets less than SFT.",
    source="EAFT, arXiv 2601.02151",
    arms=(SFT, EAFT),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "sft", "eaft", smallest=3),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            "sft",
            "eaft",
            unit="nats",
            smallest=0.02,
            decides=False,
        ),
        difference("score on the new task", RunRecord.learned, "eaft", "sft", smallest=3, no_worse=True, decides=False),
    ),
    against="It loses no less than sft.",
)
