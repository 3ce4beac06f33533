"""A run's metrics, and those of a recipe over its runs. Both follow from the registry of metrics."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, create_model

from holdfast.measure.metrics import METRICS, Metric
from holdfast.summary.models.part import Count, IntervalField, Part


class EstimateRecord(Part):
    """A number over the recipe's complete runs."""

    mean: float | None = Field(description="Mean over runs; null if no run defines it.")
    ci95: IntervalField | None = Field(description="95% t interval over runs; null below two runs.")
    sd: float | None = Field(description="Standard deviation over runs; null below two runs.")
    n: Count = Field(description="Runs that define it.")


def _meaning(metric: Metric) -> str:
    better = {True: " Higher is better.", False: " Lower is better.", None: ""}[metric.higher_is_better]
    return f"{metric.label}. {metric.definition}{better}"


def _block(name: str, doc: str, own: Metric | None, inner: Mapping[tuple[str, ...], Metric]) -> type[Part]:
    """The model of one object within a run's `metrics`.

    Args:
        own: the metric whose numbers by task or suite this object has.
        inner: metrics further down, by the keys that lead to them from here.
    """
    fields: dict[str, Any] = {}
    if own is not None:
        fields[f"per_{own.by}"] = (dict[str, float], Field(description=f"{own.formula}."))
        fields["mean"] = (
            float | None,
            Field(description=f"Unweighted mean over `per_{own.by}`; null if that is empty."),
        )
    for key in dict.fromkeys(place[0] for place in inner):
        metric = inner.get((key,))
        below = {place[1:]: each for place, each in inner.items() if place[0] == key and len(place) > 1}
        if metric is not None and metric.by is None:
            fields[key] = (float | None, Field(description=f"{_meaning(metric)} Formula: {metric.formula}."))
            continue
        text = metric.label if metric else "; ".join(each.label for each in below.values())
        model = _block(f"{name}_{key}", f"{text}.", metric, below)
        fields[key] = (model, Field(description=_meaning(metric) if metric else f"Several definitions: {text}."))
    title = "".join(word.capitalize() for word in name.split("_"))
    return create_model(title, __base__=Part, __doc__=doc, **fields)


RunMetrics: Any = _block(
    "run_metrics",
    "Metrics of a run. A[s][j] is the score of task j after stage s. Stage 0 is the base, and T the last finished "
    "stage. Task j is learned in stage j.",
    None,
    {metric.place: metric for metric in METRICS.values()},
)
"""The `metrics` of a run: every registered metric at its place."""

_estimates: dict[str, Any] = {
    name: (EstimateRecord, Field(description=_meaning(metric))) for name, metric in METRICS.items()
}

RecipeMetrics: Any = create_model(
    "RecipeMetrics", __base__=Part, __doc__="Each metric over a recipe's complete runs.", **_estimates
)
"""The `metrics` of a recipe in a comparison."""


_numbers: dict[str, Any] = {
    name: (float | None, Field(description=_meaning(metric))) for name, metric in METRICS.items()
}

UntrainedMetrics: Any = create_model(
    "UntrainedMetrics", __base__=Part, __doc__="Each metric of the base, mean over task orders.", **_numbers
)
"""The `metrics` of the untrained arm of a comparison."""


def _registered(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"is not one of the metrics {', '.join(METRICS)}")
    return name


MetricName = Annotated[str, AfterValidator(_registered), Field(json_schema_extra={"enum": list(METRICS)})]
