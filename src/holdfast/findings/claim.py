"""A claim, what is measured for it, and the verdict, which follows from intervals alone. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from holdfast.measure.statistics import Difference, holm, mean_interval, paired_difference, runs_to_tell

ClaimVerdict = Literal["reproduced", "in part", "undecided", "not reproduced"]

QuantityOutcome = Literal["holds", "undecided", "reversed"]

RunSummary = Mapping[str, Any]

Experiment = Callable[[Sequence[int]], "list[Quantity]"]
"""A measurement without runs: seeds in, quantities out, with a value for each. A module's function, so that it can be
handed to another process."""


@dataclass(frozen=True)
class ClaimArm:
    """A recipe of an experiment under a label, and what it changes of the stream's settings, by dotted keys."""

    label: str
    recipe: str | Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    full: Mapping[str, Any] = field(default_factory=dict)
    """What else the full form changes."""


@dataclass(frozen=True)
class Quantity:
    """One number that a claim says is above 0, or above −`margin` where it says that something is no worse.

    Args:
        name: what it is, so that "NAME: 4.2 points" can be read.
        unit: e.g. "points" (of 100), "steps"; empty for a ratio.
        values: one per seed, positive where the claim holds; None where it is not defined for a seed.
        if_not: why the lab may not show it, though it may be so.
        if_reversed: a guess at why the lab shows the opposite.
        margin: how far below 0 still counts as no worse.
    """

    name: str
    unit: str
    values: Sequence[float | None]
    if_not: str
    if_reversed: str | None = None
    margin: float = 0.0

    @property
    def estimate(self) -> Difference:
        """From −margin, over seeds; without an interval where fewer than two are defined, or all are the very same."""
        return paired_difference(self.values, [-self.margin] * len(self.values))

    @property
    def mean(self) -> float | None:
        return mean_interval(self.values).mean

    @property
    def ci95(self) -> tuple[float, float] | None:
        """Of the values themselves."""
        above = self.estimate.ci95
        return None if above is None else (above[0] - self.margin, above[1] - self.margin)

    @property
    def outcome(self) -> QuantityOutcome:
        """Whether the interval lies on the claim's side of the bound, on both, or on the other.

        Undecided where it is not defined for every seed: those that are may be defined because it holds for them.
        """
        if self.ci95 is None or self.estimate.n < len(self.values):
            return "undecided"
        low, high = self.ci95
        return "holds" if low > -self.margin else "reversed" if high < -self.margin else "undecided"

    @property
    def reason(self) -> str | None:
        """Why it does not hold, as far as numbers and what is known of the lab can say; None where it does."""
        if self.outcome == "holds":
            return None
        if self.outcome == "reversed":
            guess = f" A guess: {self.if_reversed}" if self.if_reversed else ""
            return f"It goes the other way on the lab; why was not measured.{guess}"
        return f"{self._what_seeds_tell()} {self.if_not}"

    def _what_seeds_tell(self) -> str:
        found = self.estimate
        if found.n < len(self.values):
            return f"It is defined for {found.n} of {len(self.values)} seeds."
        if not any(self.values):
            return "It is 0 on every seed."
        if found.ci95 is None or found.difference is None:
            return "All seeds come to the same number, whose spread is not known."
        bound = f"{-self.margin or 0:g}"
        more = runs_to_tell([value + self.margin for value in self.values if value is not None])
        if more is None:
            return f"{found.n} seeds do not tell it from {bound}, nor would a hundred with this mean and spread."
        side = "it" if found.difference > 0 else "the opposite"
        return (
            f"{found.n} seeds do not tell it from {bound}; with this mean and spread some {more} would have an even "
            f"chance to show {side}."
        )

    def as_json(self) -> dict[str, Any]:
        numbers = {"mean": self.mean, "ci95": self.ci95, "n": self.estimate.n, "p": self.estimate.p}
        said = {"margin": self.margin, "values": list(self.values), "outcome": self.outcome, "reason": self.reason}
        return {"name": self.name, "unit": self.unit, **numbers, **said}


def minus(a: Sequence[float | None], b: Sequence[float | None]) -> list[float | None]:
    """a − b, seed by seed; None where one of them is not defined."""
    return [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]


@dataclass(frozen=True)
class Table:
    """What stands behind a claim's quantities: a head and rows of text."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def as_json(self) -> list[dict[str, str]]:
        return [dict(zip(self.head, row, strict=True)) for row in self.rows]


MARGIN = 5.0
"""Points by which a score may be worse and still counts as no worse: at 48 items one score of three seeds is known to
some eight."""


@dataclass(frozen=True)
class Evidence:
    """The finished runs of an experiment.

    Attributes:
        summaries: by label, in the order of the seeds.
        folders: the run directories, likewise.
    """

    summaries: Mapping[str, Sequence[RunSummary]]
    folders: Mapping[str, Sequence[Path]]

    def per_seed(self, label: str, number: Callable[[RunSummary], float | None]) -> list[float | None]:
        return [number(summary) for summary in self.summaries[label]]

    def difference(self, a: str, b: str, number: Callable[[RunSummary], float | None]) -> list[float | None]:
        """number(a) − number(b), seed by seed."""
        return minus(self.per_seed(a, number), self.per_seed(b, number))


@dataclass(frozen=True)
class Claim:
    """What a source says, and how it is put to the test.

    Args:
        name: on the command line.
        statement: one sentence, as the source means it.
        source: where it is said.
        arms: the runs that it takes, each over every seed; runs that several claims take are made once.
        quick_arms: those of the quick form, where all of them would take too long for it.
        measure: from these runs to what the claim says is above 0.
        experiment: in the place of both, a measurement without runs.
        table: of what was measured, for the page; by default what each arm spent and where it came to.
    """

    name: str
    statement: str
    source: str
    arms: tuple[ClaimArm, ...] = ()
    measure: Callable[[Evidence], list[Quantity]] | None = None
    experiment: Experiment | None = None
    quick_arms: tuple[ClaimArm, ...] | None = None
    table: Callable[[Evidence], Table] | None = None

    def taken(self, *, full: bool) -> tuple[ClaimArm, ...]:
        """The arms of the full or of the quick form."""
        return self.arms if full or self.quick_arms is None else self.quick_arms


@dataclass(frozen=True)
class Finding:
    """A claim with what was measured, in the full or in the quick form."""

    claim: Claim
    quantities: Sequence[Quantity]
    seconds: float
    full: bool = True
    table: Table | None = None

    @property
    def verdict(self) -> ClaimVerdict:
        """Reproduced is what holds in all parts.

        In part, or not reproduced, is what holds, or is reversed, in at least one part after Holm's correction for
        their number; whatever is left is undecided: more seeds might tell.
        """
        outcomes = [quantity.outcome for quantity in self.quantities]
        if all(outcome == "holds" for outcome in outcomes):
            return "reproduced"
        corrected = holm([quantity.estimate.p for quantity in self.quantities])
        told = {outcome for outcome, p in zip(outcomes, corrected, strict=True) if p is not None and p < 0.05}
        if "reversed" in told:
            return "not reproduced"
        return "in part" if "holds" in told else "undecided"

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
