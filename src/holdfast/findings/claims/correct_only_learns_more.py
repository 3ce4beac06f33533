"""Which samples to distill on."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS

CORRECT_ONLY = ClaimArm("correct-only", {"name": "correct_only", "num_loss_tokens_to_skip": 0}, FACTS)

ALL_SAMPLES = ClaimArm("all-samples", {"name": "correct_only", "num_loss_tokens_to_skip": 0, "distill": "all"}, FACTS)

CLAIM = Claim(
    name="correct-only-learns-more",
    statement="Distilling on the correct ones of four samples teaches more than distilling on all four.",
    source="arXiv 2605.06188",
    arms=(CORRECT_ONLY, ALL_SAMPLES),
    preconditions=(success("facts", "demonstration", at_least=0.8),),
    quantities=(difference("score on the new task", RunRecord.learned, "correct-only", "all-samples", smallest=3),),
    against="It teaches no more.",
)
