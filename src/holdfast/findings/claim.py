"""A claim, the quantities measured for it, and the verdict. Only intervals decide the verdict. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from holdfast.measure.statistics import Difference, holm, mean_interval, paired_difference, runs_to_tell

ClaimVerdict = Literal["reproduced", "partly reproduced", "inconclusive", "not reproduced"]

QuantityOutcome = Literal["holds", "inconclusive", "reversed"]

SummaryJson = Mapping[str, Any]

Experiment = Callable[[Sequence[int]], "list[Quantity]"]
"""A measurement without runs: takes seeds, returns quantities with one value per seed. It must be a module-level
function, because it is sent to other processes."""


@dataclass(frozen=True)
class ClaimArm:
    """One recipe of an experiment: its label, and the stream settings that it changes, by dotted keys."""

    label: str
    recipe: str | Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    full: Mapping[str, Any] = field(default_factory=dict)
    """Further settings that the full form changes."""


@dataclass(frozen=True)
class Quantity:
    """One number that is above 0 if the claim is true, or above −`margin` if the claim says "no worse".

    Args:
        name: reads well in "NAME: 4.2 points".
        unit: e.g. "points" (of 100) or "steps"; empty for a ratio.
        values: one per seed, positive if the claim holds; None if it is not defined for that seed.
        if_not: why the lab may not show the effect even if it exists.
        if_reversed: a guess why the lab shows the opposite.
        margin: how far below 0 a value may be and still count as no worse.
        noise: standard deviation of one seed's value that the test items alone account for, in the same unit; see
            `paired_difference`. None if it is not known.
    """

    name: str
    unit: str
    values: Sequence[float | None]
    if_not: str
    if_reversed: str | None = None
    margin: float = 0.0
    noise: float | None = None

    @property
    def estimate(self) -> Difference:
        """Distance from −margin, over seeds. No interval if fewer than two values are defined, or if all are equal and
        the noise is not known."""
        return paired_difference(self.values, [-self.margin] * len(self.values), self.noise)

    @property
    def mean(self) -> float | None:
        return mean_interval(self.values).mean

    @property
    def ci95(self) -> tuple[float, float] | None:
        """95% interval of the values, not of their distance from −margin."""
        above = self.estimate.ci95
        return None if above is None else (above[0] - self.margin, above[1] - self.margin)

    @property
    def outcome(self) -> QuantityOutcome:
        """Holds if the interval is above the bound, reversed if it is below, inconclusive otherwise.

        Also inconclusive if a seed has no value: the other seeds may have one because the claim holds for them.
        """
        if self.ci95 is None or self.estimate.n < len(self.values):
            return "inconclusive"
        low, high = self.ci95
        return "holds" if low > -self.margin else "reversed" if high < -self.margin else "inconclusive"

    @property
    def reason(self) -> str | None:
        """Why it does not hold, from the numbers and from what we know about the lab; None if it holds."""
        if self.outcome == "holds":
            return None
        if self.outcome == "reversed":
            guess = f" A guess: {self.if_reversed}" if self.if_reversed else ""
            return f"The lab shows the opposite. The cause was not measured.{guess}"
        return f"{self._why_inconclusive()} {self.if_not}"

    def _why_inconclusive(self) -> str:
        estimate = self.estimate
        if estimate.n < len(self.values):
            return f"Only {estimate.n} of {len(self.values)} seeds have a value."
        if not any(self.values):
            return "The value is 0 on every seed."
        if estimate.ci95 is None or estimate.difference is None:
            return "All seeds have the same value, so its spread is unknown."
        bound = f"{-self.margin or 0:g}"
        more = runs_to_tell([value + self.margin for value in self.values if value is not None])
        too_few = f"{estimate.n} seeds are too few: the CI includes {bound}."
        if more is None:
            return f"{too_few} With this mean and spread, even 100 seeds would be too few."
        side = "the claim" if estimate.difference > 0 else "the opposite"
        return f"{too_few} With this mean and spread, about {more} seeds would have a 50% chance to show {side}."

    def as_json(self) -> dict[str, Any]:
        numbers = {"mean": self.mean, "ci95": self.ci95, "n": self.estimate.n, "p": self.estimate.p}
        details = {"margin": self.margin, "values": list(self.values), "outcome": self.outcome, "reason": self.reason}
        return {"name": self.name, "unit": self.unit, **numbers, **details}


def minus(a: Sequence[float | None], b: Sequence[float | None]) -> list[float | None]:
    """a − b, seed by seed; None if either is not defined."""
    return [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]


@dataclass(frozen=True)
class Table:
    """A table of the data that a claim's quantities come from: column names and rows of text."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def as_json(self) -> list[dict[str, str]]:
        return [dict(zip(self.head, row, strict=True)) for row in self.rows]


MARGIN = 5.0
"""Points by which a score may be lower and still count as no worse. With 48 items, the error of one score over three
seeds is about 8 points."""


@dataclass(frozen=True)
class Evidence:
    """The finished runs of an experiment.

    Attributes:
        summaries: by label, in the order of the seeds.
        folders: the run directories, by label, in the same order.
    """

    summaries: Mapping[str, Sequence[SummaryJson]]
    folders: Mapping[str, Sequence[Path]]

    def per_seed(self, label: str, number: Callable[[SummaryJson], float | None]) -> list[float | None]:
        return [number(summary) for summary in self.summaries[label]]

    def difference(self, a: str, b: str, number: Callable[[SummaryJson], float | None]) -> list[float | None]:
        """number(a) − number(b), seed by seed."""
        return minus(self.per_seed(a, number), self.per_seed(b, number))


@dataclass(frozen=True)
class Claim:
    """What a source claims, and how it is tested.

    Args:
        name: on the command line.
        statement: the claim as the source means it.
        source: the paper, with its table or figure.
        arms: the runs that the test needs, each with every seed. Runs that several claims need are made once.
        quick_arms: the runs of the quick form, if all arms would take too long.
        measure: computes from these runs the quantities that are above 0 if the claim is true.
        experiment: replaces `arms` and `measure`: a measurement without runs.
        table: computes a table for the page; by default each arm's budget and results.
        title: the heading of a page that has this claim alone; by default its name.
    """

    name: str
    statement: str
    source: str
    arms: tuple[ClaimArm, ...] = ()
    measure: Callable[[Evidence], list[Quantity]] | None = None
    experiment: Experiment | None = None
    quick_arms: tuple[ClaimArm, ...] | None = None
    table: Callable[[Evidence], Table] | None = None
    title: str | None = None

    def taken(self, *, full: bool) -> tuple[ClaimArm, ...]:
        """The arms of the full or of the quick form."""
        return self.arms if full or self.quick_arms is None else self.quick_arms


@dataclass(frozen=True)
class Finding:
    """A claim with its measured quantities, in the full or the quick form."""

    claim: Claim
    quantities: Sequence[Quantity]
    seconds: float
    full: bool = True
    table: Table | None = None

    @property
    def verdict(self) -> ClaimVerdict:
        """Reproduced if all quantities hold.

        Otherwise, after Holm's correction for the number of quantities: not reproduced if one is reversed, partly
        reproduced if one holds, inconclusive if neither. More seeds may decide an inconclusive claim.
        """
        outcomes = [quantity.outcome for quantity in self.quantities]
        if all(outcome == "holds" for outcome in outcomes):
            return "reproduced"
        corrected = holm([quantity.estimate.p for quantity in self.quantities])
        significant = {outcome for outcome, p in zip(outcomes, corrected, strict=True) if p is not None and p < 0.05}
        if "reversed" in significant:
            return "not reproduced"
        return "partly reproduced" if "holds" in significant else "inconclusive"

    def as_json(self) -> dict[str, Any]:
        claim = self.claim
        return {
            "name": claim.name,
            "statement": claim.statement,
            "source": claim.source,
            "verdict": self.verdict,
            "quantities": [quantity.as_json() for quantity in self.quantities],
            "arms": [arm.label for arm in claim.taken(full=self.full)],
            "table": None if self.table is None else self.table.as_json(),
            "seconds": self.seconds,
        }
