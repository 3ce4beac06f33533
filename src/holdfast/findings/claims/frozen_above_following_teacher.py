"""SDPO's teachers."""

from holdfast.findings.arms import SDPO_FAST_UNSTABLE, SDPO_FROZEN_UNSTABLE, SDPO_UNSTABLE
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import lost_less
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="frozen-above-following-teacher",
    statement="At a high learning rate, SDPO forgets less with a frozen teacher than with one that follows the "
    "student.",
    source="Denser is not better, arXiv 2607.01763, section 5",
    arms=(SDPO_FAST_UNSTABLE, SDPO_FROZEN_UNSTABLE, SDPO_UNSTABLE),
    preconditions=(success("facts", "a sample that succeeded", at_least=0.8),),
    quantities=(
        *lost_less("sdpo-frozen-0.0004", than="sdpo-fast-0.0004"),
        difference(
            "lost on old skills", RunRecord.lost, "sdpo-0.0004", "sdpo-frozen-0.0004", smallest=3, decides=False
        ),
    ),
    against="It forgets as much with a frozen teacher.",
    note="The teacher that decides follows by 0.2 a step, four times as fast as SDPO's own, so that it is seen in 60 "
    "steps. SDPO's own is shown beside.",
    is_quick=True,
)
