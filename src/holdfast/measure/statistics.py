"""Intervals and tests. Two sources of randomness are kept apart and never mixed:

- which items are in a test set: `score_interval`, for one model's score on one set;
- which seed and task order a run has: `mean_interval` and `paired_difference`. Each run is one observation. All runs
  answer the same items, so these intervals do not cover the choice of items.

The sums are `math.fsum`, so that the order of runs does not change a number. scipy's t tests would differ in the last
bit, and importing `scipy.stats` takes longer than all of this.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy.special import ndtri, stdtr, stdtrit

Interval = tuple[float, float]

LEVEL = 0.95

_Z = float(ndtri(0.5 + LEVEL / 2))

# Rounding alone makes differences of equal fractions unequal, by about 1e-17. Scores are no finer than 1e-6.
_NO_SPREAD = 1e-12


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over runs with its 95% t interval and standard deviation. Both are None below two runs."""

    mean: float | None
    ci95: Interval | None
    sd: float | None
    n: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference over paired runs, its 95% t interval and two-sided p value.

    There is no interval below two pairs, or if all pairs differ by the same non-zero amount. Scores are counts of
    answers, so equal differences are a coincidence, but the t test would call them certain.
    """

    difference: float | None
    ci95: Interval | None
    p: float | None
    n: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def wilson_interval(rate: float, n: int) -> Interval:
    """Wilson's 95% score interval for a rate observed over n items. It also works at 0 and 1 and for small n."""
    if n < 1:
        return 0.0, 1.0
    center = (rate + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2))
    # At a rate of 0 or 1 the bound is equal to the rate; rounding would miss that.
    return (0.0 if rate <= 0 else max(0.0, center - half)), (1.0 if rate >= 1 else min(1.0, center + half))


def score_interval(rewards: Sequence[float]) -> Interval:
    """95% interval for a set's mean score, from one reward in [0, 1] per item.

    - Every reward is 0 or 1: Wilson's interval.
    - Graded rewards: the t interval of their mean, clipped to [0, 1].
    - Graded rewards that are all equal: they show no spread, so Wilson's interval at their mean. It is wide enough for
      any distribution on [0, 1] with that mean.
    - No item, or one graded item: (0, 1), because nothing is known.
    """
    n = len(rewards)
    if n == 0:
        return 0.0, 1.0
    average = math.fsum(rewards) / n
    if all(reward in (0, 1) for reward in rewards):
        return wilson_interval(average, n)
    if n == 1:
        return 0.0, 1.0
    if max(rewards) - min(rewards) < _NO_SPREAD:
        return wilson_interval(average, n)
    half = _half_width(rewards)
    return max(0.0, average - half), min(1.0, average + half)


def largest_margin(n: int, *, graded: bool = False) -> float:
    """The largest half width of `score_interval` for n items: half of the answers correct, half wrong.

    For graded rewards, the largest half width is the t interval's at the largest spread of rewards in [0, 1].
    """
    if n < 1 or (graded and n < 2):
        return 0.5
    wilson = _Z / (2 * math.sqrt(n + _Z**2))
    return min(0.5, max(wilson, _t_quantile(n) * 0.5 / math.sqrt(n - 1))) if graded else wilson


def mean_interval(values: Sequence[float | None]) -> Estimate:
    """Mean over runs with a 95% t interval. Undefined values (None) are left out, and `n` counts the rest."""
    known = [value for value in values if value is not None]
    if not known:
        return Estimate(None, None, None, 0)
    average = math.fsum(known) / len(known)
    if len(known) == 1:
        return Estimate(average, None, None, 1)
    half = _half_width(known)
    return Estimate(average, (average - half, average + half), _sd(known), len(known))


def paired_difference(a: Sequence[float | None], b: Sequence[float | None]) -> Difference:
    """a − b over runs paired by position (same seed, same task order), by the paired t test.

    Pairs with an undefined side (None) are left out.

    Raises:
        ValueError: the two sequences have different lengths.
    """
    differences = [x - y for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    n = len(differences)
    if n == 0:
        return Difference(None, None, None, 0)
    average = math.fsum(differences) / n
    if n == 1:
        return Difference(average, None, None, 1)
    if max(differences) - min(differences) < _NO_SPREAD:
        nothing = abs(average) < _NO_SPREAD
        return Difference(0.0, (0.0, 0.0), 1.0, n) if nothing else Difference(average, None, None, n)
    t = average / (_sd(differences) / math.sqrt(n))
    half = _half_width(differences)
    return Difference(average, (average - half, average + half), 2 * float(stdtr(n - 1, -abs(t))), n)


def t_interval(mean: float, error: float, n: int) -> Interval:
    """95% t interval of a mean with this standard error over n observations, at least 2."""
    half = _t_quantile(n) * error
    return mean - half, mean + half


def runs_to_tell(differences: Sequence[float], most: int = 100) -> int | None:
    """Number of runs until a 95% t interval excludes 0, if mean and standard deviation stay the same.

    None if more than `most` runs are needed. This is no power analysis: one in two such experiments is inconclusive.
    """
    if len(differences) < 2:
        return None
    average, sd = math.fsum(differences) / len(differences), _sd(differences)
    return next((n for n in range(2, most + 1) if _t_quantile(n) * sd / math.sqrt(n) < abs(average)), None)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values, corrected for one family of comparisons (Holm 1979). None stays None and does not count."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    floor = 0.0
    for rank, (p, i) in enumerate(known):
        floor = max(floor, min(1.0, p * (len(known) - rank)))
        adjusted[i] = floor
    return adjusted


def _t_quantile(n: int) -> float:
    return float(stdtrit(n - 1, 0.5 + LEVEL / 2))


def _sd(values: Sequence[float]) -> float:
    average = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - average) ** 2 for v in values) / (len(values) - 1))


def _half_width(values: Sequence[float]) -> float:
    return _t_quantile(len(values)) * _sd(values) / math.sqrt(len(values))
