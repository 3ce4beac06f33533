"""Rewarding rollouts that stay near the previous stage's model forgets less than not rewarding it."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more_over_stages
from holdfast.findings.precondition import success
from holdfast.findings.stream import SEQUENCE

RAPO = ClaimArm("rapo", {"name": "rapo", "drift_scale": 2.0}, SEQUENCE)

WITHOUT = ClaimArm("rapo-without", {"name": "rapo", "retention": 0.0}, SEQUENCE)

CLAIM = Claim(
    name="rapo-keeps-more",
    statement="Rewarding rollouts that stay near the previous stage's model forgets less than not rewarding it.",
    source="RaPO, arXiv 2605.09640",
    arms=(WITHOUT, RAPO),
    preconditions=(success("facts", at_least=0.1, at_most=0.5),),
    quantities=keeps_more_over_stages("rapo", than="rapo-without"),
    against="At the end it is not better on all tasks and old skills together.",
    note="The paper's drift scale is 20. On the lab a task is learned at a drift of 0.6 nats per token, where it would "
    "leave nothing of the reward for staying close. Here it is 2.",
)
