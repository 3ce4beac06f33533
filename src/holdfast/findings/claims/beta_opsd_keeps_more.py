"""A target between base and teacher."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import BETA_OPSD
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more
from holdfast.findings.precondition import success
from holdfast.findings.stream import FACTS

WHOLE = ClaimArm("beta-opsd-at-1", {"name": "beta_opsd", "beta": 1.0}, FACTS)

CLAIM = Claim(
    name="beta-opsd-keeps-more",
    statement="A target between the base and the teacher ends with higher scores on the new task and old skills "
    "together than the teacher as the target.",
    source="beta-OPSD, arXiv 2607.28582",
    arms=(BETA_OPSD, WHOLE),
    preconditions=(success("facts", "demonstration", at_least=0.8),),
    quantities=keeps_more("beta-opsd", than="beta-opsd-at-1"),
    against="The teacher as the target ends as high.",
)
