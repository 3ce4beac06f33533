"""SDFT's main claim."""

from holdfast.findings.arms import SDFT, SFT
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import at_equal_tokens, difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="sft-loses-more-than-sdft",
    statement="On demonstrations in a foreign voice, SDFT loses less of what the model could do than SFT does, and "
    "learns no less.",
    source="SDFT, arXiv 2601.19897, figures 1 and 4",
    arms=(SFT, SDFT),
    preconditions=(success("facts", "demonstration", at_least=0.8), success("facts", at_most=0.5)),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "sft", "sdft", smallest=3),
        difference("KL to the base on old prompts", RunRecord.kl_on_old, "sft", "sdft", unit="nats", smallest=0.02),
        difference("score on the new task", RunRecord.learned, "sdft", "sft", smallest=3, no_worse=True),
        at_equal_tokens("sdft", "sft", "suites"),
    ),
    against="SFT loses no more than SDFT, or SDFT learns at least 3 points less.",
    is_quick=True,
)
