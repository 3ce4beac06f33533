"""A teacher mixed with the student."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SDPO_FAST_UNSTABLE, UNSTABLE, sdpo
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS

TRUST_REGION = ClaimArm("sdpo-trust-region", sdpo(teacher_kind="trust_region"), FACTS).at(UNSTABLE)

CLAIM = Claim(
    name="trust-region-holds-as-well",
    statement="A frozen teacher mixed with the student forgets less than one that follows fast, and teaches as much.",
    source="our reading of arXiv 2601.20802, which compares scores",
    arms=(SDPO_FAST_UNSTABLE, TRUST_REGION),
    preconditions=(success("facts", "a sample that succeeded", at_least=0.8),),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "sdpo-fast-0.0004", "sdpo-trust-region-0.0004", smallest=3),
        difference(
            "score on the new task",
            RunRecord.learned,
            "sdpo-trust-region-0.0004",
            "sdpo-fast-0.0004",
            smallest=3,
            no_worse=True,
        ),
    ),
    against="It forgets as much, or teaches at least 3 points less.",
)
