"""Whether one model answers items better than another: both answer the same items, and each item gives one difference.

The test is exact if all scores are 0 or 1: McNemar's, by the binomial distribution of the items on which the two
differ. For graded scores it is the bootstrap of `holdfast.measure.item_tests`. The interval is the score interval: it
never leaves the range of possible differences, and it is wide if no item differs, because a few equal items do not
prove that all are equal.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtr

from holdfast.measure.item_tests import bootstrap_p, exact_p, nearest_null, score_interval_of_change
from holdfast.measure.statistics import LEVEL, Interval

PairedVerdict = Literal["better", "worse", "not shown"]

_EQUAL = 1e-9
"""Differences below this are rounding."""


@dataclass(frozen=True, slots=True)
class PairedItems:
    """Two models on the same items.

    Attributes:
        n: items.
        difference: mean score of the first model minus that of the second.
        ci95: of the difference. It leaves out 0 if and only if p is below .05.
        p: two-sided.
        verdict: of the first model. "better" or "worse" if p is below .05.
    """

    n: int
    difference: float
    ci95: Interval
    p: float
    verdict: PairedVerdict


def compare_paired(first: Sequence[float], second: Sequence[float]) -> PairedItems:
    """Compare two models by their scores of the same items, in the same order.

    Args:
        first: one score per item, at least 0. The scores of a set with weights are scaled, so that their plain mean is
            the set's score. The scale then goes from 0 to the largest score.
        second: the other model's scores.

    Raises:
        ValueError: there are no items, different numbers of them, or a score is not a finite number of 0 or more.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"there are {len(a)} and {len(b)} scores, not scores of the same items")
    if not (np.isfinite([a, b]).all() and min(a.min(), b.min()) >= 0):
        raise ValueError("a score is not a finite number of 0 or more")
    whole = max(1.0, float(a.max()), float(b.max()))
    differences = a - b
    differences[np.abs(differences) < _EQUAL] = 0.0
    values, counts = np.unique(differences, return_counts=True)
    n, mean = len(a), float(differences.mean())
    if np.isin([a, b], (0, 1)).all():
        # Where it is below .05, so is that of the score test, which the interval inverts.
        up, down = int(counts[values > 0].sum()), int(counts[values < 0].sum())
        p = min(1.0, 2 * exact_p(max(up, down), min(up, down), n, 0.0))
    else:
        # Not so for the bootstrap, so the larger of both counts: no verdict contradicts the interval.
        p = max(min(1.0, 2 * min(bootstrap_p(values, counts, 0.0, whole))), _score_p(values, counts, mean, whole))
    low, high = score_interval_of_change(values, counts, whole)
    if p >= 1 - LEVEL:
        low, high = min(low, 0.0), max(high, 0.0)
    verdict: PairedVerdict = "not shown" if low <= 0 <= high else "better" if low > 0 else "worse"
    return PairedItems(n, mean, (low, high), p, verdict)


def _score_p(values: np.ndarray, counts: np.ndarray, mean: float, whole: float) -> float:
    """Two-sided p of the score test that the true mean is 0."""
    support, weights = nearest_null(values, counts, 0.0, whole)
    spread = math.sqrt(float(weights @ support**2) / int(counts.sum()))
    return 2 * float(ndtr(-abs(mean) / spread)) if spread else 1.0
