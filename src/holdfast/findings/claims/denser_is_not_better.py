"""Supervision of half of the tokens."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import MIDDLE, SDPO_TOOLS, sdpo
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import TOOLS

MASKED = ClaimArm("sdpo-masked", sdpo(token_mask_ratio=0.5), TOOLS).at(MIDDLE)

CLAIM = Claim(
    name="denser-is-not-better",
    statement="If a random half of the tokens is left out, SDPO at the same learning rate learns as much and moves "
    "less from the base.",
    source="our reading of arXiv 2607.01763; we do not know its numbers on masks",
    arms=(SDPO_TOOLS.at(MIDDLE), MASKED),
    preconditions=(success("tools", "a sample that succeeded", at_least=0.8),),
    quantities=(
        difference(
            "score on the new task",
            RunRecord.learned,
            "sdpo-masked-0.0002",
            "sdpo@tools-0.0002",
            smallest=3,
            no_worse=True,
        ),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            "sdpo@tools-0.0002",
            "sdpo-masked-0.0002",
            unit="nats",
            smallest=0.01,
        ),
    ),
    against="It learns at least 3 points less, or moves as far.",
)
