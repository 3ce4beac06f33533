"""A control: the teacher sees another example."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SDFT, sdft
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS

STRANGER = ClaimArm("sdft-stranger", sdft(privilege="stranger"), FACTS)

CLAIM = Claim(
    name="stranger-teaches-nearly-as-much",
    statement="A teacher that is shown another question and its demonstration teaches nearly as much as one that is "
    "shown the right answer.",
    source="OP2SD, arXiv 2608.09228",
    arms=(SDFT, STRANGER),
    preconditions=(success("facts", "demonstration", at_least=0.8),),
    quantities=(
        difference("score on the new task", RunRecord.learned, "sdft-stranger", "sdft", smallest=5, no_worse=True),
    ),
    against="It teaches at least 5 points less.",
    note="The lab's facts cannot be reasoned out. Where another example shows how to think, a stranger may teach more.",
)
