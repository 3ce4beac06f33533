"""Answers from the near future."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import GRPO_HARD, HARD_GROUP
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import STEPS_HARD

SPENT = 13
"""The cost of looking ahead, in optimizer steps of GRPO: ten steps ahead, and two more samples per prompt."""

NPO = ClaimArm(
    "npo-hard",
    {"name": "npo", "num_generations": HARD_GROUP, "scout_steps": 10, "guide_samples": 2},
    STEPS_HARD,
    {"train.steps": 60 - SPENT},
)

CLAIM = Claim(
    name="npo-above-grpo",
    statement="If most groups fail, correct answers from the run's near future take GRPO further at the same cost.",
    source="NPO, arXiv 2604.20733",
    arms=(NPO, GRPO_HARD),
    preconditions=(success("steps-hard", at_least=0.01, at_most=0.15),),
    quantities=(difference("score on the new task", RunRecord.learned, "npo-hard", "grpo-hard", smallest=3),),
    against="It teaches no more.",
)
