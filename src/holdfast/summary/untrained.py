"""The arm that takes no step: what every metric is if the base stays as it is. It needs no run of its own."""

from collections.abc import Iterable

from holdfast.measure.metrics import METRICS, compute_metrics, flatten_metrics
from holdfast.measure.scores import Json, mean
from holdfast.summary.inputs import JsonRecord

UNTRAINED = "untrained"
"""The arm's label in tables."""


def untrained_metrics(summaries: Iterable[JsonRecord]) -> dict[str, float | None]:
    """Each metric of the untrained base, from row 0 of the evaluations.

    A run of the base has this row after every stage too. So its final score is the base's, and it gains and forgets
    nothing. Runs of a comparison share the base, but tasks may come in several orders: the numbers are means over runs.

    Args:
        summaries: of runs. Those that have not evaluated the base are left out.
    """
    flat = []
    for summary in summaries:
        order = summary["order"]
        if summary["evaluations"]:
            first = summary["evaluations"][0]
            rows = [{**first, "stage": stage} for stage in range(len(order) + 1)]
            flat.append(flatten_metrics(compute_metrics(rows, order, summary["sets"])))
    return {name: mean(v for each in flat if (v := each[name]) is not None) for name in METRICS}


def untrained_arm(summaries: Iterable[JsonRecord]) -> Json:
    """The `untrained` block of a comparison's summary."""
    return {"label": UNTRAINED, "metrics": untrained_metrics(summaries)}
