"""Own samples: drawn once, or drawn again at each step."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import RFT
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS

RFT_ONCE = ClaimArm("rft-once", {"name": "rft", "samples": "once"}, FACTS)

CLAIM = Claim(
    name="samples-drawn-once-forget",
    statement="Imitating own correct samples that were drawn once from the base forgets more than imitating samples "
    "drawn again at each step.",
    source="Retaining by doing, ICML 2026",
    arms=(RFT_ONCE, RFT),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "rft-once", "rft", smallest=3),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            "rft-once",
            "rft",
            unit="nats",
            smallest=0.02,
            decides=False,
        ),
        difference(
            "score on the new task", RunRecord.learned, "rft", "rft-once", smallest=3, no_worse=True, decides=False
        ),
    ),
    against="Samples drawn once lose no more.",
)
