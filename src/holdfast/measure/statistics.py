"""Intervals and tests. Two sources of randomness are kept apart and never mixed:

- which items are in a test set: `score_interval`, for one model's score on one set;
- which seed and task order a run has: `mean_interval` and `paired_difference`. Each run is one observation. All runs
  answer the same items, so these intervals do not cover the choice of items.

The t intervals over runs assume that runs scatter about evenly to both sides. With 3 to 10 runs of skewed values they
cover 83 to 90% instead of 95% (`benchmarks/intervals.py`). The noise of items, where it is known, makes up for some of
it at the fewest runs; there is no cheap mend for the rest but more runs.

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

    There is no interval below two pairs. There is none either if all pairs differ by the same non-zero amount and the
    noise of one pair is not known: a spread of zero is then a coincidence of unknown size.
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
    - Graded rewards: the t interval of the rewards and two more, a 0 and a 1, clipped to [0, 1]. So Agresti and Coull
      (1998) widen intervals of shares, with two of each. Without them, the interval covers too little near 0 and 1: the
      few items that differ are often not in the sample. `benchmarks/intervals.py` measures the coverage.
    - No item: (0, 1), because nothing is known.
    """
    n = len(rewards)
    if n == 0:
        return 0.0, 1.0
    if all(reward in (0, 1) for reward in rewards):
        return wilson_interval(math.fsum(rewards) / n, n)
    widened = [*rewards, 0.0, 1.0]
    average, half = math.fsum(widened) / len(widened), _half_width(widened)
    return max(0.0, average - half), min(1.0, average + half)


def largest_margin(n: int, *, graded: bool = False) -> float:
    """The largest half width of `score_interval` for n items: half of the answers correct, half wrong.

    For graded rewards, it is that of the same rewards by the t interval.
    """
    if n < 1:
        return 0.5
    wilson = _Z / (2 * math.sqrt(n + _Z**2))
    return min(0.5, max(wilson, _t_quantile(n + 2) * 0.5 / math.sqrt(n + 1))) if graded else wilson


def score_error(score: float, n: int) -> float:
    """Standard error of a mean of n rewards in [0, 1], at most: that of right and wrong answers with this mean.

    The mean is first moved as by one more right and one more wrong answer, so that the error is not 0 at 0 or 1.
    """
    moved = (score * n + 1) / (n + 2)
    return math.sqrt(moved * (1 - moved) / n)


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


def paired_difference(a: Sequence[float | None], b: Sequence[float | None], noise: float | None = None) -> Difference:
    """a − b over runs paired by position (same seed, same task order), by the paired t test.

    Pairs with an undefined side (None) are left out.

    A few runs can agree by chance, and the t test then calls their difference all but certain. If `noise` is given, the
    spread is that of the pairs and of one imagined pair that deviates by `noise`: with n pairs, the variance is
    (Σ(d − mean)² + noise²) / (n − 1), and the degrees of freedom stay n − 1. So the interval is never narrower than
    the t test's, it has no jump where the pairs become equal, and the imagined pair loses its weight as pairs are
    added.

    Args:
        noise: standard deviation of one pair's difference that the items alone account for; see `score_error`. None if
            it is not known, or if the values are no means over items.

    Raises:
        ValueError: the two sequences have different lengths, or the noise is negative.
    """
    if noise is not None and noise < 0:
        raise ValueError(f"noise is {noise}; it is a standard deviation")
    differences = [x - y for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    n = len(differences)
    if n == 0:
        return Difference(None, None, None, 0)
    average = math.fsum(differences) / n
    if n == 1:
        return Difference(average, None, None, 1)
    if not noise and max(differences) - min(differences) < _NO_SPREAD:
        nothing = abs(average) < _NO_SPREAD
        return Difference(0.0, (0.0, 0.0), 1.0, n) if nothing else Difference(average, None, None, n)
    squares = math.fsum((d - average) ** 2 for d in differences) + (noise or 0.0) ** 2
    error = math.sqrt(squares / ((n - 1) * n))
    return Difference(average, t_interval(average, error, n), 2 * float(stdtr(n - 1, -abs(average / error))), n)


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
