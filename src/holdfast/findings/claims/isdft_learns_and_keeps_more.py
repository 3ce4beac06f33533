"""Targets between student and teacher."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SDFT
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more
from holdfast.findings.precondition import success
from holdfast.findings.stream import FACTS

ISDFT = ClaimArm(
    "isdft",
    {"name": "isdft", "num_loss_tokens_to_skip": 0, "teacher_kind": "frozen", "ramp_steps": 0.5},
    FACTS,
)

CLAIM = Claim(
    name="isdft-learns-and-keeps-more",
    statement="Moving a part of the way to the teacher, with a KL penalty to the base, learns more and forgets less "
    "than moving all the way.",
    source="iSDFT, arXiv 2609.24646",
    arms=(ISDFT, SDFT),
    preconditions=(success("facts", "demonstration", at_least=0.8),),
    quantities=keeps_more("isdft", than="sdft"),
    against="Moving all the way ends as high on both together.",
)
