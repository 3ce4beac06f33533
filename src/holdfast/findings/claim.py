"""A claim, what is measured for it, and the verdict, which follows from intervals alone. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from holdfast.measure.statistics import mean_interval

Verdict = Literal["reproduced", "in part", "not reproduced"]
Outcome = Literal["holds", "not shown", "reversed"]
Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Arm:
    """A recipe of an experiment under a label, and what it changes of the stream's settings, by dotted keys."""

    label: str
    recipe: str | Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Quantity:
    """One number that a claim says is above 0.

    Args:
        name: what it is, so that "NAME: 4.2 points" can be read.
        unit: e.g. "points" (of 100), "steps"; empty for a ratio.
        values: one per seed, positive where the claim holds; None where it is not defined for a seed.
        if_not: the likely reason where the lab does not show it.
    """

    name: str
    unit: str
    values: Sequence[float | None]
    if_not: str

    @property
    def mean(self) -> float | None:
        return mean_interval(self.values).mean

    @property
    def ci95(self) -> tuple[float, float] | None:
        """The t interval over seeds; None for fewer than two of them."""
        return mean_interval(self.values).ci95

    @property
    def outcome(self) -> Outcome:
        """Whether the interval lies on the claim's side of 0, on both, or on the other."""
        if self.ci95 is None:
            return "not shown"
        low, high = self.ci95
        return "holds" if low > 0 else "reversed" if high < 0 else "not shown"

    def as_json(self) -> dict[str, Any]:
        numbers = {"mean": self.mean, "ci95": self.ci95, "outcome": self.outcome}
        reason = None if self.outcome == "holds" else self.if_not
        return {"name": self.name, "unit": self.unit, **numbers, "values": list(self.values), "likely_reason": reason}


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


@dataclass(frozen=True)
class Evidence:
    """The finished runs of an experiment.

    Attributes:
        summaries: by label, in the order of the seeds.
        folders: the run directories, likewise.
    """

    summaries: Mapping[str, Sequence[Summary]]
    folders: Mapping[str, Sequence[Path]]

    def per_seed(self, label: str, number: Callable[[Summary], float | None]) -> list[float | None]:
        return [number(summary) for summary in self.summaries[label]]

    def difference(self, a: str, b: str, number: Callable[[Summary], float | None]) -> list[float | None]:
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
        experiment: in the place of both, a measurement without runs: seeds in, quantities out.
        table: of what was measured, for the page.
    """

    name: str
    statement: str
    source: str
    arms: tuple[Arm, ...] = ()
    measure: Callable[[Evidence], list[Quantity]] | None = None
    experiment: Callable[[Sequence[int]], list[Quantity]] | None = None
    quick_arms: tuple[Arm, ...] | None = None
    table: Callable[[Evidence], Table] | None = None

    def taken(self, *, full: bool) -> tuple[Arm, ...]:
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
    def verdict(self) -> Verdict:
        outcomes = {quantity.outcome for quantity in self.quantities}
        if outcomes == {"holds"}:
            return "reproduced"
        return "in part" if "holds" in outcomes and "reversed" not in outcomes else "not reproduced"

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
