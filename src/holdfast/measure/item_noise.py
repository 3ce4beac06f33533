"""How much of a difference between two runs the choice of test items alone accounts for."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.measure.metric import METRICS
from holdfast.measure.statistics import score_error

_EVALUATIONS = {"score": 1, "gain": 2, "loss": 2}
"""How many evaluations a set's part of a metric is from, by the metric's kind. Others are no means over items."""


def metric_noise(name: str, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> float | None:
    """Standard deviation of one pair's difference of a metric that the items alone account for, at most.

    It is the root mean square over the pairs. The scores at the end stand for those of all evaluations of a set.

    Args:
        pairs: summaries of two runs with the same seed and task order.

    Returns:
        None if it is not known: for metrics that are no mean over scores of sets, such as `kl_to_base`.
    """
    errors = [[_error(name, summary) for summary in pair] for pair in pairs]
    known = [error for pair in errors for error in pair if error is not None]
    if not errors or len(known) < 2 * len(errors):
        return None
    return math.sqrt(math.fsum(error**2 for error in known) / len(errors))


def _error(name: str, summary: Mapping[str, Any]) -> float | None:
    """Standard error of one run's metric over items."""
    metric = METRICS[name]
    block: Any = summary["metrics"]
    for key in metric.place:
        block = block.get(key) if isinstance(block, Mapping) else None
    values = block.get(f"per_{metric.by}") if isinstance(block, Mapping) else None
    if not values or metric.kind not in _EVALUATIONS:
        return None
    end = summary["evaluations"][-1]["scores"]
    if any(end.get(each, {}).get("mean") is None for each in values):
        return None
    errors = [score_error(end[each]["mean"], end[each]["n"]) for each in values]
    return math.sqrt(_EVALUATIONS[metric.kind]) * math.hypot(*errors) / len(errors)
