"""Two models on the same items: by how much one fell, and how sure that is against a margin.

Items are the observations; everything else is fixed. Each item gives one difference, candidate − base. Two one-sided
tests ask about their mean in the population of such items, both at the margin δ:

- fell: is the mean below −δ?  Null hypothesis: it is −δ or above.
- holds: is the mean above −δ?  Null hypothesis: it is −δ or below (non-inferiority).

Where all scores are 0 or 1 the tests are exact: at a margin of 0 McNemar's by the binomial distribution, at any other
the unconditional test that orders outcomes by Tango's score statistic (Statistics in Medicine 17, 1998) and takes the
largest p over the share of items on which the models disagree (Hsueh, Liu & Chen, Biometrics 57, 2001). Graded scores:
the bootstrap from the distribution nearest to the data whose mean is −δ. Nearest is by the likelihood (Owen, Empirical
Likelihood, 2001), and an item may always fall or rise by the whole scale, seen or not: many ties are no proof that none
would. The bootstrap is carried out to its end, by Fourier transform, so no random numbers enter.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import bdtrc, gammaln, ndtr, ndtri, xlog1py, xlogy

from holdfast.measure.statistics import LEVEL, Interval

Floats = NDArray[np.float64]

POWER = 0.8
"""Chance of being seen that the smallest detectable fall is stated for."""

TICKS = 2520
"""Graded differences are added up in ticks of 1/2520: exact for multiples of 0.05 and fractions down to tenths."""

_Z = float(ndtri(0.5 + LEVEL / 2))

_NEAR = 1e-9


@dataclass(frozen=True, slots=True)
class ItemComparison:
    """A candidate against a base on the same items.

    Attributes:
        n: items.
        base: mean score of the base.
        candidate: mean score of the candidate.
        change: candidate − base.
        ci95: Tango's 95% score interval of the change; for graded scores the same from the empirical likelihood.
        better: items on which the candidate scored more.
        worse: items on which it scored less.
        test: how the two p values were found.
        p_fell: chance of a fall as clear as this one if the true one were just the margin.
        p_holds: chance of so small a fall if the true one were just the margin.
    """

    n: int
    base: float
    candidate: float
    change: float
    ci95: Interval
    better: int
    worse: int
    test: Literal["exact", "bootstrap"]
    p_fell: float
    p_holds: float
    _mean_absolute: float
    _mean_square: float

    def detectable_fall(self, margin: float, level: float) -> float | None:
        """The smallest true fall that these items would have shown to be beyond the margin, with power `POWER`.

        For as much disagreement between the models as was seen, and no less than the fall itself needs; exact for right
        and wrong, by the normal approximation for graded scores. None where not even a fall to 0 would have been seen.

        Args:
            margin: the largest fall that is accepted.
            level: of the one-sided test.
        """
        seen = self._exact_power(margin, level) if self.test == "exact" else self._approximate_power(margin, level)
        low, high = margin, self.base
        if high <= low or seen(high) < POWER:
            return None
        while high - low > 1e-5:
            middle = (low + high) / 2
            low, high = (low, middle) if seen(middle) >= POWER else (middle, high)
        return high

    def _exact_power(self, margin: float, level: float) -> Callable[[float], float]:
        needed = critical_region(self.n, margin, level)
        disagreement = (self.worse + self.better) / self.n

        def power(fall: float) -> float:
            share = max(disagreement, fall)
            return _chance(needed, self.n, (share + fall) / 2, (share - fall) / 2)

        return power

    def _approximate_power(self, margin: float, level: float) -> Callable[[float], float]:
        edge = float(ndtri(1 - level)) * self._deviation(margin)

        def power(fall: float) -> float:
            distance = (fall - margin) * math.sqrt(self.n) - edge
            deviation = self._deviation(fall)
            return float(ndtr(distance / deviation)) if deviation else float(distance >= 0)

        return power

    def items_needed(self, margin: float, level: float) -> int | None:
        """How many items would show with power `POWER` that the candidate holds, if in truth nothing has changed.

        With as much disagreement between the models as was seen. None at a margin of 0, which no number can show.
        """
        if margin <= 0:
            return None
        spread = float(ndtri(1 - level)) * self._deviation(margin) + float(ndtri(POWER)) * self._deviation(0.0)
        return math.ceil((spread / margin) ** 2)

    def _deviation(self, fall: float) -> float:
        """Standard deviation of the differences if the true fall were this one.

        A fall needs differences to be made of: where too few were seen, there are more of them, as large as those seen.
        """
        typical = self._mean_square / self._mean_absolute if self._mean_absolute else 1.0
        return math.sqrt(max(0.0, typical * max(self._mean_absolute, fall) - fall**2))


def compare_items(base: Floats, candidate: Floats, margin: float) -> ItemComparison:
    """Compare a candidate with a base by their scores on the same items, in the same order.

    Args:
        base: one score per item, at least 0. A set that weights its items has them scaled, so that the plain mean is
            its score; the scale is then 0 to the largest score seen.
        candidate: the same of the candidate.
        margin: the largest fall that is accepted, in the unit of the scores.

    Raises:
        ValueError: no items, different numbers of them, a score that is no number or below 0, a margin outside [0, 1).
    """
    base, candidate = np.asarray(base, float), np.asarray(candidate, float)
    if base.shape != candidate.shape or base.ndim != 1 or not len(base):
        raise ValueError(f"{len(base)} and {len(candidate)} scores are not those of the same items")
    if not (np.isfinite([base, candidate]).all() and min(base.min(), candidate.min()) >= 0):
        raise ValueError("a score is not a number of 0 or more")
    if not 0 <= margin < 1:
        raise ValueError(f"the margin {margin} is not between 0 and 1")
    n, differences = len(base), candidate - base
    differences[np.abs(differences) < _NEAR] = 0.0
    values, counts = np.unique(differences, return_counts=True)
    better, worse = int(counts[values > 0].sum()), int(counts[values < 0].sum())
    graded = not np.isin([base, candidate], (0, 1)).all()
    whole = max(1.0, float(base.max()), float(candidate.max()))
    if graded:
        p_fell, p_holds = bootstrap_p(values, counts, -margin, whole)
    else:
        p_fell = exact_p(worse, better, n, margin)
        p_holds = exact_p(better, worse, n, -margin)
    return ItemComparison(
        n=n,
        base=float(base.mean()),
        candidate=float(candidate.mean()),
        change=float(differences.mean()),
        ci95=score_interval_of_change(values, counts, whole),
        better=better,
        worse=worse,
        test="bootstrap" if graded else "exact",
        p_fell=p_fell,
        p_holds=p_holds,
        _mean_absolute=float(np.abs(differences).mean()),
        _mean_square=float((differences**2).mean()),
    )


def exact_p(up: int, down: int, n: int, delta: float) -> float:
    """Exact one-sided p for "the share going up exceeds the share going down by more than delta".

    Args:
        up: items that went up, in the direction that is tested.
        down: items that went the other way; the rest of the n stayed.
        n: items.
        delta: the difference of the two shares under the null hypothesis, between −1 and 1.

    Returns:
        At 0 the conditional p (McNemar), else the largest over the share that goes down. By Barnard's convexity of the
        rejection region no smaller difference gives a larger one.
    """
    if delta == 0:
        return float(_at_least(np.array(up), np.array(up + down), 0.5))
    return _size(_least_up(float(_score(up, down, n, delta)) - _NEAR, n, delta), n, delta)


@lru_cache(64)  # sets of one gate often have the same size
def critical_region(n: int, delta: float, level: float) -> NDArray[np.int64]:
    """For each number that go down, 0 to n: the least number going up at which `exact_p` is at most `level`.

    Above n where no number is enough.
    """
    if delta == 0:
        down = np.arange(n + 1)
        return _first(lambda up: _at_least(up, up + down, 0.5) <= level, n - down)
    low, high = 0.0, 40.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        enough = _size(_least_up(middle, n, delta), n, delta) <= level
        low, high = (low, middle) if enough else (middle, high)
    return _least_up(high, n, delta)


def _size(needed: NDArray[np.int64], n: int, delta: float) -> float:
    """The largest chance of an outcome in a region, over the share that goes down, where that plus delta goes up."""
    low, high = max(0.0, -delta), (1 - delta) / 2
    # Close together where the models hardly ever disagree, and where they always do: there the chance is least smooth.
    places = low + (high - low) * (1 - np.cos(np.linspace(0, math.pi, 65))) / 2
    chances = [_chance(needed, n, q + delta, q) for q in places]
    top = int(np.argmax(chances))
    fine = np.linspace(places[max(0, top - 1)], places[min(64, top + 1)], 17)
    return min(1.0, max(chances + [_chance(needed, n, q + delta, q) for q in fine]))


def _chance(needed: NDArray[np.int64], n: int, up: float, down: float) -> float:
    """Of an outcome in a region, where such shares go up and down."""
    # Numbers that go down with any chance to speak of (Bernstein's inequality, 1e-12).
    reach = 8 * math.sqrt(n * down * (1 - down)) + 20
    j = np.arange(max(0, math.floor(n * down - reach)), min(n, math.ceil(n * down + reach)) + 1)
    share = min(1.0, max(0.0, up / (1 - down))) if down < 1 else 0.0
    return float((_binomial(j, n, down) * _at_least(needed[j], n - j, share)).sum())


def _binomial(k: NDArray[np.int64], n: int, p: float) -> Floats:
    """Chances of k successes among n."""
    ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return np.exp(ways + xlogy(k, p) + xlog1py(n - k, -p))


def _at_least(k: NDArray[np.int64], n: NDArray[np.int64], p: float) -> Floats:
    """Chances of k successes or more among n."""
    inside = (k > 0) & (k <= n)
    return np.where(k <= 0, 1.0, np.where(inside, bdtrc(np.where(inside, k - 1, 0), np.where(inside, n, 1), p), 0.0))


def _score(up: Any, down: Any, n: int, delta: float) -> Any:
    """Tango's statistic: the difference of the shares less delta, over its standard error under the null hypothesis."""
    b = -up - down + delta * (2 * n - up + down)
    q = (np.sqrt(b**2 + 8 * n * down * delta * (1 - delta)) - b) / (4 * n)
    error = np.sqrt(np.maximum(2 * q + delta * (1 - delta), 1e-15) / n)
    return ((up - down) / n - delta) / error


def _least_up(score: float, n: int, delta: float) -> NDArray[np.int64]:
    """For each number that go down, 0 to n: the least number that go up with at least this score; n + 1 where none."""
    down = np.arange(n + 1)
    least = _first(lambda up: _score(np.minimum(up, n - down), down, n, delta) >= score, n - down)
    # An outcome with fewer going down is at least as extreme; the statistic nearly always says so itself.
    return np.minimum.accumulate(least[::-1])[::-1]


def _first(holds: Callable[[NDArray[np.int64]], NDArray[np.bool_]], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each entry: the first number from 0 to `last` from which on a condition holds; len(last) where none."""
    low, high = np.zeros_like(last), last + 1
    while (low < high).any():
        middle = (low + high) // 2
        enough = (middle > last) | holds(middle)
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
    return np.where(low > last, len(last), low)


def nearest_null(values: Floats, counts: NDArray[np.int64], mean: float, whole: float) -> tuple[Floats, Floats]:
    """The distribution of differences with a given mean that makes the data most likely: its support and its weights.

    Args:
        values: distinct differences seen.
        counts: how often each was seen.
        mean: the mean asked for, between −whole and whole.
        whole: the largest difference possible; ±whole belong to the support, seen or not.
    """
    shares, away = counts / counts.sum(), values - mean

    def pull(t: float) -> float:
        return float((shares * away / (1 + t * away)).sum())

    # 1 + t·(x − mean) stays positive on the support; at an end of the range the unseen extreme takes what is missing.
    low, high = -1 / (whole - mean), 1 / (whole + mean)
    ends = np.isclose(values[[0, -1]], (-whole, whole), atol=_NEAR)
    if not ends[0] and pull(high) >= 0:
        t = high
    elif not ends[1] and pull(low) <= 0:
        t = low
    else:
        t = brentq(pull, low * (1 - _NEAR), high * (1 - _NEAR), xtol=1e-13)
    weights = shares / (1 + t * away)
    missing = max(0.0, 1 - float(weights.sum()))
    support = np.array([-whole, *values, whole])
    return support, np.array([missing if t > 0 else 0.0, *weights, missing if t <= 0 else 0.0])


def bootstrap_p(values: Floats, counts: NDArray[np.int64], mean: float, whole: float) -> tuple[float, float]:
    """Chances of a mean at most and at least as large as the one seen, for samples from the nearest null distribution.

    Args:
        values: distinct differences seen.
        counts: how often each was seen.
        mean: of the null hypothesis.
        whole: the largest difference possible.

    Returns:
        p for "the true mean is below `mean`", and for "it is above".
    """
    n = int(counts.sum())
    support, weights = nearest_null(values, counts, mean, whole)
    weights = weights / weights.sum()
    ticks = np.rint(support * TICKS).astype(np.int64)
    # What rounding to ticks can have moved a sum by; 0 for the usual fractions, which share a larger unit.
    slack = math.ceil(float(np.abs(support * TICKS - ticks).max()) * 2 * int(counts[values != 0].sum()) - _NEAR)
    unit = 1 if slack else int(np.gcd.reduce(ticks))
    ticks //= unit
    seen = int((counts * ticks[1:-1]).sum())
    expected = float(weights @ ticks)
    deviation = math.sqrt(float(weights @ (ticks - expected) ** 2) * n)
    # By Bernstein's inequality the sum is further away than this with a chance below 1e-9.
    reach = math.ceil(7 * deviation + 28 * int(ticks[-1]))
    size = 1 << (2 * reach).bit_length()
    one = np.zeros(size)
    np.add.at(one, ticks % size, weights)
    total = np.fft.irfft(np.fft.rfft(one) ** n, size)
    # Sums are known only up to multiples of `size`: those around the expected one are meant.
    start = round(expected * n) - size // 2
    sums = np.roll(total, -(start % size))
    at_most = float(sums[: max(0, min(size, seen + slack - start + 1))].sum())
    at_least = float(sums[max(0, min(size, seen - slack - start)) :].sum())
    return min(1.0, max(0.0, at_most)), min(1.0, max(0.0, at_least))


def score_interval_of_change(values: Floats, counts: NDArray[np.int64], whole: float) -> Interval:
    """95% interval: the means that a score test does not refuse, with the variance under each from `nearest_null`.

    For differences of −1, 0 and 1 this is Tango's interval.
    """
    n = int(counts.sum())
    seen = float(values @ counts) / n

    def refused(mean: float) -> float:
        """Above 0 where the test refuses a mean."""
        support, weights = nearest_null(values, counts, mean, whole)
        return n * (seen - mean) ** 2 - _Z**2 * float(weights @ (support - mean) ** 2)

    def bound(end: float) -> float:
        first, last = seen + (end - seen) * 1e-7, end * (1 - _NEAR)  # with no spread, no mean but the one seen is kept
        return end if abs(end - seen) < _NEAR else float(brentq(refused, first, last, xtol=1e-9))

    return bound(-whole), bound(whole)
