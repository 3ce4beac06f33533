"""A teacher behind a gate."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SDFT_FAST_UNSTABLE, UNSTABLE, sdft
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS

GATED = ClaimArm("sdft-gated", sdft(teacher_kind="gated", stage_start="student"), FACTS).at(UNSTABLE)

CLAIM = Claim(
    name="gated-refresh-does-not-collapse",
    statement="A teacher that is refreshed only if reward and lengths allow it forgets less than a teacher that "
    "follows fast.",
    source="CGTR, arXiv 2606.03532",
    arms=(SDFT_FAST_UNSTABLE, GATED),
    preconditions=(success("facts", "demonstration", at_least=0.8),),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "sdft-fast-0.0004", "sdft-gated-0.0004", smallest=3),
        difference(
            "score on the new task",
            RunRecord.learned,
            "sdft-gated-0.0004",
            "sdft-fast-0.0004",
            smallest=3,
            no_worse=True,
            decides=False,
        ),
    ),
    against="It forgets as much.",
)
