"""The numbers that follow from a stream's evaluations; imports without torch."""

from holdfast.measure.forgetting import METRIC_NAMES, compute_metrics, flatten_metrics
from holdfast.measure.matched import compare_matched
from holdfast.measure.statistics import (
    Difference,
    Estimate,
    holm,
    largest_margin,
    mean_interval,
    paired_difference,
    score_interval,
    wilson_interval,
)

__all__ = [
    "METRIC_NAMES",
    "SCHEMA_VERSION",
    "Difference",
    "Estimate",
    "build_comparison_summary",
    "build_run_summary",
    "compare_matched",
    "comparison_verdict",
    "compute_metrics",
    "flatten_metrics",
    "holm",
    "json_safe",
    "largest_margin",
    "matched_sentence",
    "mean_interval",
    "paired_difference",
    "pareto_front",
    "points",
    "run_verdict",
    "score_interval",
    "wilson_interval",
]
