"""Own samples: drawn once, or drawn again at each step."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import RFT
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more
from holdfast.findings.precondition import success
from holdfast.findings.stream import FACTS

RFT_ONCE = ClaimArm("rft-once", {"name": "rft", "samples": "once"}, FACTS)

CLAIM = Claim(
    name="samples-drawn-once-forget",
    statement="Imitating own correct samples that were drawn once from the base forgets more than imitating samples "
    "drawn again at each step.",
    source="Retaining by doing, ICML 2026",
    arms=(RFT_ONCE, RFT),
    preconditions=(success("facts", at_most=0.5),),
    quantities=keeps_more("rft", than="rft-once"),
    against="Samples drawn once lose no more.",
)
