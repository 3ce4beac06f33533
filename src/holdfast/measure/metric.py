"""What a metric is, and the registry of all metrics.

A metric is one decorated function over a run's scores. The decorator says how the number is called and written; the
summary, its schema, the report, the terminal, the verdict and the documentation read this from the registry.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.measure.scores import Json, ScoreMatrix, mean

NumberKind = Literal["score", "gain", "loss", "nats"]

UNITS: Mapping[NumberKind, str] = {"score": "%", "gain": "points", "loss": "points", "nats": "nats"}
"""How each kind of number is written: a percentage, a signed change in points, points lost, nats per token."""

MetricValues = float | Mapping[str, float] | None


@dataclass(frozen=True)
class Metric:
    """One number of a run, and how it is shown.

    Attributes:
        name: key in `summary.json`.
        label: title in tables.
        group: heading that the report's table shows it under.
        kind: what sort of number it is; `UNITS` has the unit.
        higher_is_better: None if neither direction is good in itself.
        definition: one sentence for readers of the report.
        formula: the same in terms of A[s][j] (see `holdfast.measure.scores`).
        by: what the number is a mean over: its block in the summary then has `per_task`, `per_suite` or `per_set` next
            to `mean`. None for a plain number.
        place: keys that lead to the number's block within the summary's `metrics`.
        headline: whether the terminal's table of a comparison has room for it.
        compute: the number, or numbers by name if `by` is set.
    """

    name: str
    label: str
    group: str
    kind: NumberKind
    higher_is_better: bool | None
    definition: str
    formula: str
    by: Literal["task", "suite", "set"] | None
    place: tuple[str, ...]
    headline: bool
    compute: Callable[[ScoreMatrix], MetricValues]

    @property
    def unit(self) -> str:
        return UNITS[self.kind]

    def block(self, scores: ScoreMatrix) -> Json | float | None:
        """What the summary has at `place`."""
        values = self.compute(scores)
        if not isinstance(values, Mapping):
            return values
        return {f"per_{self.by}": dict(values), "mean": mean(values.values())}

    def read(self, metrics: Mapping[str, Any]) -> float | None:
        """The metric's one number out of a summary's `metrics`. None if it is undefined or missing."""
        value: Any = metrics
        for key in self._keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def is_missing(self, metrics: Mapping[str, Any]) -> bool:
        """Whether a summary's `metrics` was written before this metric was registered."""
        value: Any = metrics
        for key in self._keys:
            if not isinstance(value, Mapping) or key not in value:
                return True
            value = value[key]
        return False

    @property
    def _keys(self) -> tuple[str, ...]:
        return (*self.place, "mean") if self.by else self.place


METRICS: dict[str, Metric] = {}
"""All metrics by name, in the order of tables. `holdfast.measure.metrics` fills it."""


def metric(
    *,
    label: str,
    group: str,
    kind: NumberKind,
    higher_is_better: bool | None,
    definition: str,
    formula: str,
    by: Literal["task", "suite", "set"] | None = None,
    place: str | None = None,
    headline: bool = False,
) -> Callable[[Callable[[ScoreMatrix], MetricValues]], Metric]:
    """Register a function over a run's scores as a metric, under the function's name.

    Args:
        place: where the summary has it, with dots, if not under its name: `forgetting.from_best`.

    The other arguments are the attributes of `Metric`.
    """

    def register(compute: Callable[[ScoreMatrix], MetricValues]) -> Metric:
        name = compute.__name__
        keys = tuple((place or name).split("."))
        made = Metric(
            name, label, group, kind, higher_is_better, definition, formula, by, keys, headline, compute
        )  # fmt: skip
        METRICS[name] = made
        return made

    return register


def metrics_by_group() -> dict[str, list[Metric]]:
    """The metrics under the headings of the report's table."""
    groups: dict[str, list[Metric]] = {}
    for each in METRICS.values():
        groups.setdefault(each.group, []).append(each)
    return groups


def compute_metrics(
    evaluations: Sequence[Mapping[str, Any]], order: Sequence[str], sets: Sequence[Mapping[str, Any]]
) -> Json:
    """The `metrics` of a run's summary.

    Args:
        evaluations, order, sets: as in `ScoreMatrix`. While a run is under way, the numbers are about the tasks learned
            so far.

    Returns:
        Fractions of 1. A mean over nothing is None: forgetting of earlier tasks after one stage, or retention without
        suites.
    """
    scores = ScoreMatrix(evaluations, order, sets)
    metrics: Json = {}
    for each in METRICS.values():
        *path, last = each.place
        block = metrics
        for key in path:
            block = block.setdefault(key, {})
        value = each.block(scores)
        if isinstance(value, dict):
            block.setdefault(last, {}).update(value)  # another metric may have its number in this block, too
        else:
            block[last] = value
    return metrics


def flatten_metrics(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The one number of each metric out of a summary's `metrics`."""
    return {name: each.read(metrics) for name, each in METRICS.items()}
