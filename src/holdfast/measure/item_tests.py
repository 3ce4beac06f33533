"""Compare two models on the same items: how much the score dropped, and whether the drop is beyond a margin.

Items are the observations; everything else is fixed. Each item gives one difference, candidate − base. Two one-sided
tests are about the mean difference in the population of such items, both at the margin δ:

- fell: is the mean below −δ?  Null hypothesis: it is −δ or above.
- holds: is the mean above −δ?  Null hypothesis: it is −δ or below (non-inferiority).

If all scores are 0 or 1, the tests are exact:

- At a margin of 0: McNemar's exact test, by the binomial distribution.
- At any other margin: the unconditional test that orders outcomes by Tango's score statistic (Statistics in Medicine
  17, 1998). It takes the largest p over the share of items on which the models disagree (Hsueh, Liu & Chen, Biometrics
  57, 2001).

If scores are graded, the test is a bootstrap. It samples from the distribution with mean −δ that is nearest to the data
by the empirical likelihood (Owen, Empirical Likelihood, 2001). In this distribution an item may always drop or rise by
the whole scale, even if no item did: many ties do not prove that a drop is impossible. The distribution of the
bootstrap mean is computed exactly, by Fourier transform, so there are no random numbers.

scipy has none of this: its exact tests for 2×2 tables are for independent groups and without a margin, and its
bootstrap and permutation tests draw random samples and test a difference of 0.
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
"""Power that the smallest detectable drop is given for."""

TICKS = 2520
"""Graded differences are added in units of 1/2520: exact for multiples of 0.05 and for halves to tenths."""

_Z = float(ndtri(0.5 + LEVEL / 2))

_NEAR = 1e-9


@dataclass(frozen=True, slots=True)
class ItemComparison:
    """A candidate compared with a base on the same items.

    Attributes:
        n: items.
        base: mean score of the base.
        candidate: mean score of the candidate.
        change: candidate − base.
        ci95: Tango's 95% score interval of the change; for graded scores, the same with the empirical likelihood.
        better: number of items with a higher score.
        worse: number of items with a lower score.
        test: how the two p values are computed.
        p_fell: probability of a drop at least this large, if the true drop is equal to the margin.
        p_holds: probability of a drop at most this large, if the true drop is equal to the margin.
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
        """The smallest true drop beyond the margin that these items detect with power `POWER`.

        It assumes the observed disagreement between the models, or as much as the drop itself needs. It is exact for
        scores of 0 and 1, and uses the normal approximation for graded scores. None if even a drop to 0 would not be
        detected.

        Args:
            margin: the largest drop that is accepted.
            level: significance level of the one-sided test.
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
        """Number of items that show with power `POWER` that the candidate holds, if its true score is unchanged.

        It assumes the observed disagreement between the models. None at a margin of 0: no number of items shows that.
        """
        if margin <= 0:
            return None
        spread = float(ndtri(1 - level)) * self._deviation(margin) + float(ndtri(POWER)) * self._deviation(0.0)
        return math.ceil((spread / margin) ** 2)

    def _deviation(self, fall: float) -> float:
        """Standard deviation of the differences, if the true drop is `fall`.

        A drop of this size needs differences. If too few were observed, more of the observed size are assumed.
        """
        typical = self._mean_square / self._mean_absolute if self._mean_absolute else 1.0
        return math.sqrt(max(0.0, typical * max(self._mean_absolute, fall) - fall**2))


def compare_items(base: Floats, candidate: Floats, margin: float) -> ItemComparison:
    """Compare a candidate with a base by their scores on the same items, in the same order.

    Args:
        base: one score per item, at least 0. The scores of a set with weights are scaled, so that their plain mean is
            the set's score. The scale then goes from 0 to the largest score.
        candidate: the candidate's scores.
        margin: the largest drop that is accepted, in the unit of the scores.

    Raises:
        ValueError: there are no items, or different numbers of them; a score is not finite or is below 0; or the margin
            is not in [0, 1).
    """
    base, candidate = np.asarray(base, float), np.asarray(candidate, float)
    if base.shape != candidate.shape or base.ndim != 1 or not len(base):
        raise ValueError(f"the models have {len(base)} and {len(candidate)} scores, not scores of the same items")
    if not (np.isfinite([base, candidate]).all() and min(base.min(), candidate.min()) >= 0):
        raise ValueError("a score is not a finite number of 0 or more")
    if not 0 <= margin < 1:
        raise ValueError(f"the margin {margin} is not in [0, 1)")
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
    """Exact one-sided p for "the share of items that go up exceeds the share that go down by more than delta".

    Args:
        up: number of items that changed in the tested direction.
        down: number of items that changed in the other direction. The rest of the n did not change.
        n: number of items.
        delta: the difference of the two shares under the null hypothesis, between −1 and 1.

    Returns:
        At a delta of 0 the conditional p (McNemar), otherwise the largest p over the share that goes down. The
        rejection region is convex in Barnard's sense, so no smaller difference gives a larger p.
    """
    if delta == 0:
        return float(_at_least(np.array(up), np.array(up + down), 0.5))
    return _size(_least_up(float(_score(up, down, n, delta)) - _NEAR, n, delta), n, delta)


@lru_cache(64)  # the sets of one gate often have the same size, and a region takes some 0.3 s
def critical_region(n: int, delta: float, level: float) -> NDArray[np.int64]:
    """For each number of items that go down, 0 to n: the smallest number going up with an `exact_p` of at most `level`.

    Larger than n if no number is enough.
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
    """The largest probability of a region over the share that goes down. This share plus delta goes up."""
    low, high = max(0.0, -delta), (1 - delta) / 2
    # The grid is dense at both ends, where the models never or always disagree: there the probability is least smooth.
    places = low + (high - low) * (1 - np.cos(np.linspace(0, math.pi, 65))) / 2
    chances = [_chance(needed, n, q + delta, q) for q in places]
    top = int(np.argmax(chances))
    fine = np.linspace(places[max(0, top - 1)], places[min(64, top + 1)], 17)
    return min(1.0, max(chances + [_chance(needed, n, q + delta, q) for q in fine]))


def _chance(needed: NDArray[np.int64], n: int, up: float, down: float) -> float:
    """Probability of a region, given the shares of items that go up and down."""
    # The other numbers of items that go down have a probability below 1e-12 (Bernstein's inequality).
    reach = 8 * math.sqrt(n * down * (1 - down)) + 20
    j = np.arange(max(0, math.floor(n * down - reach)), min(n, math.ceil(n * down + reach)) + 1)
    share = min(1.0, max(0.0, up / (1 - down))) if down < 1 else 0.0
    return float((_binomial(j, n, down) * _at_least(needed[j], n - j, share)).sum())


def _binomial(k: NDArray[np.int64], n: int, p: float) -> Floats:
    """Probabilities of k successes in n trials. `scipy.stats.binom.pmf` takes up to four times as long."""
    ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return np.exp(ways + xlogy(k, p) + xlog1py(n - k, -p))


def _at_least(k: NDArray[np.int64], n: NDArray[np.int64], p: float) -> Floats:
    """Probabilities of k or more successes in n trials."""
    inside = (k > 0) & (k <= n)
    return np.where(k <= 0, 1.0, np.where(inside, bdtrc(np.where(inside, k - 1, 0), np.where(inside, n, 1), p), 0.0))


def _score(up: Any, down: Any, n: int, delta: float) -> Any:
    """Tango's statistic: (difference of the shares − delta) divided by its standard error under the null hypothesis."""
    b = -up - down + delta * (2 * n - up + down)
    q = (np.sqrt(b**2 + 8 * n * down * delta * (1 - delta)) - b) / (4 * n)
    error = np.sqrt(np.maximum(2 * q + delta * (1 - delta), 1e-15) / n)
    return ((up - down) / n - delta) / error


def _least_up(score: float, n: int, delta: float) -> NDArray[np.int64]:
    """For each number that goes down, 0 to n: the smallest number going up with at least this score; n + 1 if none."""
    down = np.arange(n + 1)
    least = _first(lambda up: _score(np.minimum(up, n - down), down, n, delta) >= score, n - down)
    # An outcome with fewer items going down is at least as extreme. The statistic alone agrees in nearly all cases.
    return np.minimum.accumulate(least[::-1])[::-1]


def _first(holds: Callable[[NDArray[np.int64]], NDArray[np.bool_]], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each entry: the smallest number from 0 to `last` for which a monotone condition holds; len(last) if none."""
    low, high = np.zeros_like(last), last + 1
    while (low < high).any():
        middle = (low + high) // 2
        enough = (middle > last) | holds(middle)
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
    return np.where(low > last, len(last), low)


def nearest_null(values: Floats, counts: NDArray[np.int64], mean: float, whole: float) -> tuple[Floats, Floats]:
    """The distribution of differences with a given mean that makes the data most likely: its support and its weights.

    Args:
        values: distinct observed differences.
        counts: how often each was observed.
        mean: the given mean, between −whole and whole.
        whole: the largest possible difference. ±whole are in the support even if they were not observed.
    """
    shares, away = counts / counts.sum(), values - mean

    def pull(t: float) -> float:
        return float((shares * away / (1 + t * away)).sum())

    # 1 + t·(x − mean) stays positive on the support. At an end of the range, the unobserved extreme gets the weight
    # that is missing to 1.
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
    """Probabilities of a mean at most, and at least, as large as the observed one under the nearest null distribution.

    Args:
        values: distinct observed differences.
        counts: how often each was observed.
        mean: the mean under the null hypothesis.
        whole: the largest possible difference.

    Returns:
        p for "the true mean is below `mean`", and p for "the true mean is above `mean`".
    """
    n = int(counts.sum())
    support, weights = nearest_null(values, counts, mean, whole)
    weights = weights / weights.sum()
    ticks = np.rint(support * TICKS).astype(np.int64)
    # The largest change of a sum by rounding to ticks. It is 0 for the usual fractions, which share a larger unit.
    slack = math.ceil(float(np.abs(support * TICKS - ticks).max()) * 2 * int(counts[values != 0].sum()) - _NEAR)
    unit = 1 if slack else int(np.gcd.reduce(ticks))
    ticks //= unit
    seen = int((counts * ticks[1:-1]).sum())
    expected = float(weights @ ticks)
    deviation = math.sqrt(float(weights @ (ticks - expected) ** 2) * n)
    # The sum is further away than this with a probability below 1e-9 (Bernstein's inequality).
    reach = math.ceil(7 * deviation + 28 * int(ticks[-1]))
    size = 1 << (2 * reach).bit_length()
    one = np.zeros(size)
    np.add.at(one, ticks % size, weights)
    total = np.fft.irfft(np.fft.rfft(one) ** n, size)
    # The transform gives sums only modulo `size`. The sums meant are those around the expected one.
    start = round(expected * n) - size // 2
    sums = np.roll(total, -(start % size))
    at_most = float(sums[: max(0, min(size, seen + slack - start + 1))].sum())
    at_least = float(sums[max(0, min(size, seen - slack - start)) :].sum())
    return min(1.0, max(0.0, at_most)), min(1.0, max(0.0, at_least))


def score_interval_of_change(values: Floats, counts: NDArray[np.int64], whole: float) -> Interval:
    """95% interval: the means that a score test does not reject. `nearest_null` gives the variance under each mean.

    For differences of −1, 0 and 1 this is Tango's interval.
    """
    n = int(counts.sum())
    seen = float(values @ counts) / n

    def rejected(mean: float) -> float:
        """Above 0 if the test rejects a mean."""
        support, weights = nearest_null(values, counts, mean, whole)
        return n * (seen - mean) ** 2 - _Z**2 * float(weights @ (support - mean) ** 2)

    def bound(end: float) -> float:
        first, last = seen + (end - seen) * 1e-7, end * (1 - _NEAR)  # without spread, only the observed mean remains
        return end if abs(end - seen) < _NEAR else float(brentq(rejected, first, last, xtol=1e-9))

    return bound(-whole), bound(whole)
