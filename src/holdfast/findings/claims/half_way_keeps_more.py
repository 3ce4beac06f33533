"""Weight averaging after SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.blended import half_way
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import single
from holdfast.findings.stream import FACTS

AVERAGED = ClaimArm("sft-averaged", "sft", FACTS, extra=half_way)

CLAIM = Claim(
    name="half-way-keeps-more",
    statement="The mean of base and trained weights regains more old skills than it loses on the new task.",
    source="WiSE-FT, arXiv 2109.01903",
    arms=(AVERAGED,),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        single(
            "gain on old skills minus loss on the new task", lambda run: run.extra("net"), "sft-averaged", smallest=3
        ),
        single("gain on old skills", lambda run: run.extra("kept"), "sft-averaged", smallest=3, decides=False),
    ),
    against="It loses as much on the new task as it regains.",
)
