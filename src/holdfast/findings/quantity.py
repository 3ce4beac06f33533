"""A quantity of a claim: one number per world, and what its interval shows. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.findings.record import RunRecord
from holdfast.measure.statistics import Difference, paired_difference

ITEM_NOISE = {"points": 3.6}
"""Standard deviation that the items alone give a difference of two scores, each over four sets of 96 items at 50%. It
keeps worlds that agree by chance from looking certain; see `paired_difference`."""

QuantityOutcome = Literal["holds", "reversed", "no difference", "inconclusive"]

WorldRuns = Mapping[str, RunRecord]
"""The runs of one world by the label of their arm."""


@dataclass(frozen=True)
class Quantity:
    """What is measured in each world: above 0 if the claim is true.

    Args:
        name: reads well in "NAME: 4.2 points".
        unit: "points" (of 100), "nats", "steps", "%", or "" for a ratio.
        measure: reads the number from the runs of one world; None if it is not defined there.
        smallest: the smallest effect of interest, in the unit. Between −smallest and +smallest is no difference.
        no_worse: the claim says only that it is not lower than −smallest.
        decides: whether the claim's verdict depends on it. Others are shown beside.
    """

    name: str
    unit: str
    measure: Callable[[WorldRuns], float | None]
    smallest: float
    no_worse: bool = False
    decides: bool = True

    def of(self, worlds: Sequence[WorldRuns]) -> "MeasuredQuantity":
        """MeasuredQuantity in these worlds."""
        return self.with_values([self.measure(runs) for runs in worlds])

    def with_values(self, values: Sequence[float | None]) -> "MeasuredQuantity":
        """With one value per world."""
        return MeasuredQuantity(self, values)


@dataclass(frozen=True)
class MeasuredQuantity:
    """A quantity with its values, one per world."""

    quantity: Quantity
    values: Sequence[float | None]

    @property
    def estimate(self) -> Difference:
        """Mean, 95% interval and p against 0."""
        return paired_difference(self.values, [0.0] * len(self.values), ITEM_NOISE.get(self.quantity.unit))

    @property
    def against_bound(self) -> Difference:
        """The same against the bound of the claim: 0, or −smallest if it says "not lower"."""
        bound = -self.quantity.smallest if self.quantity.no_worse else 0.0
        return paired_difference(self.values, [bound] * len(self.values), ITEM_NOISE.get(self.quantity.unit))

    @property
    def outcome(self) -> QuantityOutcome:
        """What the 95% interval shows.

        - Within ±smallest: no difference (for "not lower": the claim holds).
        - Above the bound: the claim holds. Below it: it is reversed.
        - Otherwise, or if a world has no value: inconclusive. The other worlds may have one because the claim holds.
        """
        interval, smallest = self.estimate.ci95, self.quantity.smallest
        if interval is None or self.estimate.n < len(self.values):
            return "inconclusive"
        low, high = interval
        if self.quantity.no_worse:
            return "holds" if low > -smallest else "reversed" if high < -smallest else "inconclusive"
        if -smallest < low and high < smallest:
            return "no difference"
        return "holds" if low > 0 else "reversed" if high < 0 else "inconclusive"

    def as_json(self) -> dict[str, Any]:
        estimate = self.estimate
        return {
            "name": self.quantity.name,
            "unit": self.quantity.unit,
            "smallest": self.quantity.smallest,
            "no_worse": self.quantity.no_worse,
            "decides": self.quantity.decides,
            "mean": estimate.difference,
            "ci95": estimate.ci95,
            "p": self.against_bound.p,
            "n": estimate.n,
            "values": list(self.values),
            "outcome": self.outcome,
        }


def measured_apart(runs: WorldRuns) -> float | None:
    """The measure of a quantity whose claim has an experiment without runs."""
    raise NotImplementedError("an experiment measures it")


def difference(
    name: str,
    number: Callable[[RunRecord], float | None],
    more: str,
    less: str,
    *,
    unit: str = "points",
    smallest: float,
    no_worse: bool = False,
    decides: bool = True,
) -> Quantity:
    """A number of the arm `more` minus that of the arm `less`.

    Args:
        name: what the number is; the arms are added to it.
        number: reads it from a run.
        more, less: labels of arms.
    """

    def measure(runs: WorldRuns) -> float | None:
        a, b = number(runs[more]), number(runs[less])
        return None if a is None or b is None else a - b

    return Quantity(f"{name}, {more} − {less}", unit, measure, smallest, no_worse, decides)


def at_equal_tokens(more: str, less: str, field: Literal["task", "suites"]) -> Quantity:
    """The difference of two arms at the same number of tokens: all those of the arm that needs fewer. It is shown
    beside and decides nothing, because the curve of the other arm is read between probes.

    Args:
        more, less: labels of arms whose runs have probes.
        field: the new task's score, or the old skills' score.
    """
    name = {"task": "score on the new task", "suites": "score on old skills"}[field]

    def measure(runs: WorldRuns) -> float | None:
        a, b = runs[more], runs[less]
        tokens = min(a.tokens, b.tokens)
        left, right = a.at_tokens(tokens, field), b.at_tokens(tokens, field)
        return None if left is None or right is None else left - right

    return Quantity(f"{name} at equal tokens, {more} − {less}", "points", measure, 3, decides=False)


def single(
    name: str,
    number: Callable[[RunRecord], float | None],
    arm: str,
    *,
    unit: str = "points",
    smallest: float,
    no_worse: bool = False,
    decides: bool = True,
) -> Quantity:
    """A number of one arm, which is above 0 if the claim is true."""
    return Quantity(f"{name}, {arm}", unit, lambda runs: number(runs[arm]), smallest, no_worse, decides)
