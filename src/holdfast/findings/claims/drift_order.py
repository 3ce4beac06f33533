"""How far recipes move the weights."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import COMMON, GRPO, SDPO, sdpo
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS

AT_ONE_RATE = GRPO.at(COMMON), ClaimArm("sdpo-frozen", sdpo(teacher_kind="frozen"), FACTS).at(COMMON), SDPO.at(COMMON)

CLAIM = Claim(
    name="drift-order",
    statement="At the same rate, self-distillation moves the weights further than rewards do, and further still "
    "with a teacher that follows.",
    source="Denser is not better, arXiv 2607.01763, figure 5",
    arms=AT_ONE_RATE,
    preconditions=(success("facts", at_least=0.1, at_most=0.5),),
    quantities=(
        difference(
            "relative change of the weights",
            RunRecord.drift,
            "sdpo-frozen-0.0001",
            "grpo-0.0001",
            unit="%",
            smallest=0.1,
        ),
        difference(
            "relative change of the weights",
            RunRecord.drift,
            "sdpo-0.0001",
            "sdpo-frozen-0.0001",
            unit="%",
            smallest=0.1,
        ),
    ),
    against="Rewards move them as far, or the frozen teacher does.",
)
