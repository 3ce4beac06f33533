"""A KL to the base on unlabeled prompts beside SFT forgets less than SFT."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SFT
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import SMALLEST
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS

OTHERS = ("old-skills", "instruction-format", "in-context")


def _lost_elsewhere(run: RunRecord) -> float | None:
    return run.lost(names=OTHERS)


def _together(run: RunRecord) -> float | None:
    """The task's score and that of the other old skills, less a constant of the base."""
    learned, lost = run.learned(), _lost_elsewhere(run)
    return None if learned is None or lost is None else (learned - lost) / 2


RAD = ClaimArm("rad", {"name": "rad", "prompts": "lab:old-facts"}, FACTS)

CLAIM = Claim(
    name="rad-keeps-more",
    statement="A KL to the base on unlabeled prompts beside SFT forgets less than SFT.",
    source="Recall-anchored distillation, arXiv 2608.20794",
    arms=(SFT, RAD),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference("score of the task and the other old skills", _together, "rad", "sft", smallest=SMALLEST),
        difference("lost on the other old skills", _lost_elsewhere, "sft", "rad", smallest=3, decides=False),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            "sft",
            "rad",
            unit="nats",
            smallest=0.02,
            decides=False,
        ),
        difference("score on the new task", RunRecord.learned, "rad", "sft", smallest=3, decides=False),
    ),
    against="SFT ends as high on both together.",
    note="The anchor's prompts are of the kind that one suite asks, in another world, so that suite is left out of "
    "what is lost. Other suites ask under the same headers. SFT has no such prompts.",
)
