"""A KL to the base on unlabeled prompts beside SFT forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS

OTHERS = ("old-skills", "instruction-format", "in-context")


def _lost_elsewhere(run: RunRecord) -> float | None:
    return run.lost(names=OTHERS)


RAD = ClaimArm("rad", {"name": "rad", "prompts": "lab:old-facts"}, FACTS)

CLAIM = Claim(
    name="rad-keeps-more",
    statement="A KL to the base on unlabeled prompts beside SFT forgets less than SFT.",
    source="Recall-anchored distillation, arXiv 2608.20794",
    arms=(SFT, RAD),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference("lost on the other old skills", _lost_elsewhere, "sft", "rad", smallest=3),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            "sft",
            "rad",
            unit="nats",
            smallest=0.02,
            decides=False,
        ),
        difference("score on the new task", RunRecord.learned, "rad", "sft", smallest=3, no_worse=True, decides=False),
    ),
    against="It loses no less than sft.",
    note="The anchor's prompts are of the kind that one suite asks, in another world, so that suite is left out of "
    "what is lost. Other suites ask under the same headers. SFT has no such prompts.",
)
