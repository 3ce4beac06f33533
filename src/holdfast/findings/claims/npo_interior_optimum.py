"""How far to look ahead."""

from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quality import quality_ahead
from holdfast.findings.quantity import Quantity, measured_apart

CLAIM = Claim(
    name="npo-interior-optimum",
    statement="Quality over variance of near-future answers is largest at an intermediate distance.",
    source="NPO, arXiv 2604.20733",
    experiment=quality_ahead,
    preconditions=(success("tools", at_least=0.05, at_most=0.5),),
    quantities=(
        Quantity(
            "quality over variance on the same failed prompts, 15 steps ahead − 3 steps ahead", "", measured_apart, 0.02
        ),
        Quantity(
            "quality over variance on the same failed prompts, 15 steps ahead − 60 steps ahead",
            "",
            measured_apart,
            0.02,
        ),
    ),
    against="It rises or falls throughout.",
)
