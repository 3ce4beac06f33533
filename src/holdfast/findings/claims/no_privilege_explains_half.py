"""A control: the teacher sees nothing."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import SDFT, sdft
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import Quantity, WorldRuns
from holdfast.findings.stream import FACTS

WITHOUT = ClaimArm("sdft-no-privilege", sdft(privilege="none"), FACTS)


def _beyond_half(runs: WorldRuns) -> float | None:
    without, own = runs["sdft-no-privilege"].gain(), runs["sdft"].gain()
    return None if without is None or own is None else without - own / 2


CLAIM = Claim(
    name="no-privilege-explains-half",
    statement="A teacher without privileged context accounts for at least half of what self-distillation gains.",
    source="our reading of the reference-free control of arXiv 2609.20612",
    arms=(SDFT, WITHOUT),
    preconditions=(success("facts", "demonstration", at_least=0.8),),
    quantities=(Quantity("gain without privilege − half of the gain with it", "points", _beyond_half, 3),),
    against="It accounts for less than half.",
    note="The lab's facts cannot be sharpened out of the base, so this control is at its weakest here.",
)
