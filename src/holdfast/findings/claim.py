"""A claim, and the verdict on it. Only intervals and preconditions decide. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from holdfast.findings.arm import ClaimArm
from holdfast.findings.precondition import Checked, Precondition
from holdfast.findings.quantity import MeasuredQuantity, Quantity
from holdfast.measure.statistics import holm

ClaimVerdict = Literal["holds", "reversed", "no difference", "inconclusive", "untestable here"]

VERDICTS: Mapping[ClaimVerdict, str] = {
    "holds": "the effect is there",
    "reversed": "the opposite is there",
    "no difference": "there is no difference above the smallest effect of interest",
    "inconclusive": "these worlds do not decide",
    "untestable here": "a precondition fails",
}

Experiment = Callable[[int], Sequence[float | None]]
"""A measurement without runs: takes a world, returns one value per quantity. A module-level function, because it is
sent to other processes."""


@dataclass(frozen=True)
class Claim:
    """What a source claims, and how it is tested. All of it is written before the runs.

    Args:
        name: on the command line.
        statement: the claim as the source means it.
        source: the paper, with its table or figure.
        quantities: above 0 if the claim is true.
        against: what would count against it, in words.
        arms: the runs that it needs, in every world. Runs that several claims need are made once.
        preconditions: what must be true of the base.
        experiment: replaces `arms`: a measurement without runs, with one value per quantity and world.
        is_quick: whether the quick form tests it.
        note: what the lab cannot show, or how its setting differs from the source's.
    """

    name: str
    statement: str
    source: str
    quantities: Sequence[Quantity]
    against: str
    arms: tuple[ClaimArm, ...] = ()
    preconditions: tuple[Precondition, ...] = ()
    experiment: Experiment | None = None
    is_quick: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if not any(quantity.decides for quantity in self.quantities):
            raise ValueError(f"{self.name}: no quantity decides")


@dataclass(frozen=True)
class Finding:
    """A claim with what was measured."""

    claim: Claim
    measured: Sequence[MeasuredQuantity]
    preconditions: Sequence[Checked] = field(default_factory=tuple)

    @property
    def verdict(self) -> ClaimVerdict:
        """The verdict from the quantities that decide.

        - A precondition fails: untestable here.
        - Each of them holds: holds.
        - One is reversed, after Holm's correction for their number: reversed.
        - None is open, and at least one shows no difference: no difference.
        - Otherwise: inconclusive.
        """
        if any(not each.is_met for each in self.preconditions):
            return "untestable here"
        deciding = [each for each in self.measured if each.quantity.decides]
        outcomes = [each.outcome for each in deciding]
        if all(outcome == "holds" for outcome in outcomes):
            return "holds"
        corrected = holm([each.against_bound.p for each in deciding])
        significant = [p is not None and p < 0.05 for p in corrected]
        if any(outcome == "reversed" and s for outcome, s in zip(outcomes, significant, strict=True)):
            return "reversed"
        if set(outcomes) <= {"holds", "no difference"}:
            return "no difference"
        return "inconclusive"

    @property
    def is_decided(self) -> bool:
        """Whether the worlds decide the claim."""
        return self.verdict in ("holds", "reversed", "no difference")

    def as_json(self) -> dict[str, Any]:
        claim = self.claim
        return {
            "name": claim.name,
            "statement": claim.statement,
            "source": claim.source,
            "against": claim.against,
            "note": claim.note,
            "verdict": self.verdict,
            "quantities": [each.as_json() for each in self.measured],
            "preconditions": [each.as_json() for each in self.preconditions],
            "arms": [arm.label for arm in claim.arms],
        }
