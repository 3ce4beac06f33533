"""SDFT's teachers."""

from holdfast.findings.arms import SDFT_FAST_UNSTABLE, SDFT_SLOW_UNSTABLE, SDFT_UNSTABLE
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import lost_less
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="slow-above-fast-teacher",
    statement="At a high learning rate, SDFT keeps more with a slow teacher than with a fast one.",
    source="SDFT, arXiv 2601.19897, table 5; Denser is not better, arXiv 2607.01763",
    arms=(SDFT_SLOW_UNSTABLE, SDFT_FAST_UNSTABLE, SDFT_UNSTABLE),
    preconditions=(success("facts", "demonstration", at_least=0.8),),
    quantities=(
        *lost_less("sdft-slow-0.0004", than="sdft-fast-0.0004"),
        difference("lost on old skills", RunRecord.lost, "sdft-fast-0.0004", "sdft-0.0004", smallest=3, decides=False),
    ),
    against="A fast teacher keeps as much.",
    is_quick=True,
)
