"""A target between base and teacher."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import BETA_OPSD
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS

WHOLE = ClaimArm("beta-opsd-at-1", {"name": "beta_opsd", "beta": 1.0}, FACTS)

CLAIM = Claim(
    name="beta-opsd-keeps-more",
    statement="A target between the base and the teacher ends with higher scores on the new task and old skills "
    "together than the teacher as the target.",
    source="beta-OPSD, arXiv 2607.28582",
    arms=(BETA_OPSD, WHOLE),
    preconditions=(success("facts", "demonstration", at_least=0.8),),
    quantities=(
        difference(
            "score of the task and old skills at the end", RunRecord.overall, "beta-opsd", "beta-opsd-at-1", smallest=2
        ),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            "beta-opsd-at-1",
            "beta-opsd",
            unit="nats",
            smallest=0.01,
            decides=False,
        ),
        difference(
            "score on the new task", RunRecord.learned, "beta-opsd", "beta-opsd-at-1", smallest=3, decides=False
        ),
    ),
    against="The teacher as the target ends as high.",
)
