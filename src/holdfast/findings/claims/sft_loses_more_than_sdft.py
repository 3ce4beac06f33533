"""SDFT's main claim."""

from holdfast.findings.arms import MIDDLE, SDFT, SFT
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import at_best_rates, lost_less
from holdfast.findings.precondition import success
from holdfast.findings.quantity import at_equal_tokens, difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="sft-loses-more-than-sdft",
    statement="On demonstrations in a foreign voice, SDFT loses less of what the model could do than SFT does at the "
    "same learning rate, and learns no less.",
    source="SDFT, arXiv 2601.19897, figures 1 and 4",
    arms=(SFT.at(MIDDLE), SDFT.at(MIDDLE), SFT, SDFT),
    preconditions=(success("facts", "demonstration", at_least=0.8), success("facts", at_most=0.5)),
    quantities=(
        *lost_less("sdft-0.0002", than="sft-0.0002"),
        difference("score on the new task", RunRecord.learned, "sdft-0.0002", "sft-0.0002", smallest=3, no_worse=True),
        *at_best_rates("sdft", than="sft"),
        at_equal_tokens("sdft-0.0002", "sft-0.0002", "suites"),
    ),
    against="SFT loses no more than SDFT, or SDFT learns at least 3 points less.",
    note="At its own best rate each recipe stands elsewhere: SFT's is low, since it loses much at higher ones, and "
    "SDFT's is high. So what they lose there is shown beside, with what both end with.",
    is_quick=True,
)
