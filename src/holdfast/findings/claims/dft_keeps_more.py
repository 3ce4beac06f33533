"""Weighting each token by its own probability forgets less than SFT."""

from holdfast.findings.arms import DFT, SFT
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="dft-keeps-more",
    statement="Weighting each token by its own probability forgets less than SFT.",
    source="DFT, arXiv 2508.05629; arXiv 2509.20758",
    arms=(SFT, DFT),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "sft", "dft", smallest=3),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            "sft",
            "dft",
            unit="nats",
            smallest=0.02,
            decides=False,
        ),
        difference("score on the new task", RunRecord.learned, "dft", "sft", smallest=3, no_worse=True, decides=False),
    ),
    against="It loses no less than sft.",
)
