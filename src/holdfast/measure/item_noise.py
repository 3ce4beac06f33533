"""How much of a difference between two runs the choice of test items alone accounts for."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.measure.metrics import METRICS
from holdfast.measure.statistics import score_error

_EVALUATIONS = {"score": 1, "gain": 2, "loss": 2}
"""How many evaluations a set's part of a metric is from, by the metric's kind. Others are no means over items."""


def metric_noise(name: str, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> float | None:
    """Standard deviation of one pair's difference of a metric that the items alone account for, at most.

    It is the root mean square over the pairs. The scores at the end stand for those of all evaluations of a set. A
    metric that is one score, or a mean over stages, counts as a score on the items of the first task.

    Args:
        pairs: summaries of two runs with the same seed and task order.

    Returns:
        None if it is not known: for metrics that are not made of scores, such as `kl_to_base`, and for undefined ones.
    """
    errors = [[_error(name, summary) for summary in pair] for pair in pairs]
    known = [error for pair in errors for error in pair if error is not None]
    if not errors or len(known) < 2 * len(errors):
        return None
    return math.sqrt(math.fsum(error**2 for error in known) / len(errors))


def _error(name: str, summary: Mapping[str, Any]) -> float | None:
    """Standard error of one run's metric over items."""
    metric, value = METRICS[name], METRICS[name].read(summary["metrics"])
    if value is None or metric.kind not in _EVALUATIONS:
        return None
    end = summary["evaluations"][-1]["scores"]
    if metric.by is None:
        errors = [score_error(min(1.0, abs(value)), end[summary["order"][0]]["n"])]
    else:
        block: Any = summary["metrics"]
        for key in metric.place:
            block = block[key]
        sets = block[f"per_{metric.by}"]
        if any(end[each]["mean"] is None for each in sets):
            return None  # a likelihood of sets that nothing judges
        errors = [score_error(end[each]["mean"], end[each]["n"]) for each in sets]
    return math.sqrt(_EVALUATIONS[metric.kind]) * math.hypot(*errors) / len(errors)
