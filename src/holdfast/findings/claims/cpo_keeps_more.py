"""Holding the weights that moved most before forgets less than not holding them."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more_over_stages
from holdfast.findings.precondition import success
from holdfast.findings.stream import SEQUENCE

CPO = ClaimArm("cpo", "cpo", SEQUENCE)

WITHOUT = ClaimArm("cpo-without", {"name": "cpo", "strength": 0.0}, SEQUENCE)

CLAIM = Claim(
    name="cpo-keeps-more",
    statement="Holding the weights that moved most before forgets less than not holding them.",
    source="RL forgets!, arXiv 2607.04364",
    arms=(WITHOUT, CPO),
    preconditions=(success("facts", at_least=0.1, at_most=0.5),),
    quantities=keeps_more_over_stages("cpo", than="cpo-without"),
    against="At the end it is not better on all tasks and old skills together.",
)
