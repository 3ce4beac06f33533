"""On-policy distillation that stays short."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import UNSTABLE
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS

STABLE = ClaimArm("stable-opd", "stable_opd", FACTS).at(UNSTABLE)

UNSTABLE_OPD = ClaimArm(
    "stable-opd-without", {"name": "stable_opd", "beta": 0.0, "demonstration_share": 0.0}, FACTS
).at(UNSTABLE)

CLAIM = Claim(
    name="stable-opd-is-not-cut-off",
    statement="A KL penalty to the base and some demonstrations keep on-policy distillation from producing endless "
    "answers.",
    source="StableOPD, arXiv 2604.08527",
    arms=(STABLE, UNSTABLE_OPD),
    preconditions=(success("facts", "demonstration", at_least=0.8),),
    quantities=(
        difference(
            "answers that are cut off at the end",
            RunRecord.truncated,
            "stable-opd-without-0.0004",
            "stable-opd-0.0004",
            smallest=3,
        ),
        difference(
            "lost on old skills",
            RunRecord.lost,
            "stable-opd-without-0.0004",
            "stable-opd-0.0004",
            smallest=3,
            decides=False,
        ),
    ),
    against="Without them, answers are cut off no more often.",
    note="The lab's answers have ten tokens. There is little room for endless ones.",
)
