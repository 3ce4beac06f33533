"""`holdfast.measure.statistics`: intervals and tests against scipy's, and cases without information."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from holdfast.measure.statistics import (
    Difference,
    holm,
    largest_margin,
    mean_interval,
    paired_difference,
    score_error,
    score_interval,
    wilson_interval,
)

unit = st.floats(0, 1)


@given(n=st.integers(1, 2000), share=unit)
def test_wilson_is_scipys(n: int, share: float) -> None:
    right = round(share * n)
    expected = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert score_interval([1.0] * right + [0.0] * (n - right)) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


@given(st.lists(unit, min_size=1, max_size=60))
def test_an_interval_holds_the_mean_and_stays_within_the_scale(rewards: list[float]) -> None:
    low, high = score_interval(rewards)
    assert 0 <= low <= math.fsum(rewards) / len(rewards) + 1e-12
    assert math.fsum(rewards) / len(rewards) - 1e-12 <= high <= 1


def test_graded_rewards_get_a_t_interval_of_two_rewards_more_cut_to_the_scale() -> None:
    rewards = [0.2, 0.5, 0.5, 1.0, 0.3] * 4
    expected = stats.ttest_1samp([*rewards, 0, 1], 0).confidence_interval(0.95)
    assert score_interval(rewards) == pytest.approx((expected.low, expected.high))
    assert score_interval([0.9, 1.0, 1.0])[1] == 1.0


def test_equal_graded_rewards_are_not_called_certain() -> None:
    low, high = score_interval([0.5] * 40)
    assert (low + high) / 2 == pytest.approx(0.5)
    assert high - low > 0.05


@given(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=2, max_size=30), st.floats(0, 1e-6))
def test_graded_intervals_have_no_jump(rewards: list[float], change: float) -> None:
    assert score_interval([r + change for r in rewards]) == pytest.approx(score_interval(rewards), abs=1e-5)


RARE = {
    "98% right": ([1.0, 0.0, 0.5], [0.98, 0.005, 0.015]),
    "97% right": ([1.0, 0.5, 0.0], [0.97, 0.02, 0.01]),
    "near 0": ([0.0, 0.3, 1.0], [0.95, 0.03, 0.02]),
    "one level": ([0.9, 0.0], [0.97, 0.03]),
    "mixed": ([0.0, 0.5, 1.0], [0.4, 0.2, 0.4]),
}


@pytest.mark.parametrize("name", RARE)
@pytest.mark.parametrize("n", [48, 96, 192])
def test_intervals_of_graded_rewards_cover_the_mean(name: str, n: int) -> None:
    """The t interval of the rewards alone covers 56% to 93% of the rare ones."""
    values, shares = RARE[name]
    drawn = np.random.default_rng(n).choice(values, p=shares, size=(1200, n))
    truth = float(np.dot(values, shares))
    covered = [low <= truth <= high for low, high in map(score_interval, drawn.tolist())]
    assert np.mean(covered) > 0.925


def test_of_nothing_nothing_is_known() -> None:
    assert score_interval([]) == wilson_interval(0.0, 0) == (0.0, 1.0)
    assert score_interval([0.3]) == (0.0, 1.0)
    assert largest_margin(0) == largest_margin(1, graded=True) == 0.5


@given(st.lists(unit, min_size=1, max_size=60))
def test_no_graded_rewards_have_a_wider_interval_than_the_largest_margin(rewards: list[float]) -> None:
    low, high = score_interval(rewards)
    assert (high - low) / 2 <= largest_margin(len(rewards), graded=True) + 1e-12


@given(n=st.integers(1, 3000), share=unit)
def test_no_share_of_right_answers_has_a_wider_interval_than_the_largest_margin(n: int, share: float) -> None:
    low, high = wilson_interval(round(share * n) / n, n)
    assert (high - low) / 2 <= largest_margin(n) + 1e-12


def test_largest_margin_of_usual_suites() -> None:
    assert largest_margin(600) < 0.04 < largest_margin(596)
    low, high = score_interval([0.0, 1.0] * 300)
    assert (high - low) / 2 == pytest.approx(largest_margin(600))
    assert largest_margin(600) < largest_margin(600, graded=True) < 0.041


def test_mean_over_runs() -> None:
    values = [0.91, 0.93, 0.98]
    estimate, expected = mean_interval(values), stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert estimate.ci95 == pytest.approx((expected.low, expected.high))
    assert estimate.sd == pytest.approx(np.std(values, ddof=1))
    assert mean_interval([0.5, None, None]).as_json() == {"mean": 0.5, "ci95": None, "sd": None, "n": 1}
    assert mean_interval([None]).as_json() == {"mean": None, "ci95": None, "sd": None, "n": 0}


@given(st.lists(st.tuples(unit, unit), min_size=2, max_size=12))
def test_paired_difference_is_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    a, b = map(list, zip(*pairs, strict=True))
    spread = np.ptp(np.subtract(a, b))
    if spread < 1e-6:
        return
    expected = stats.ttest_rel(a, b)
    found = paired_difference(a, b)
    assert found.difference == pytest.approx(np.mean(np.subtract(a, b)), abs=1e-12)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    interval = expected.confidence_interval(0.95)
    assert found.ci95 == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-9)
    mirrored = paired_difference(b, a)
    assert mirrored.p == found.p
    assert mirrored.difference == -found.difference


def test_paired_difference_where_a_t_test_has_no_answer() -> None:
    assert paired_difference([0.9], [0.5]).as_json() == {"difference": 0.4, "ci95": None, "p": None, "n": 1}
    assert paired_difference([None, 0.1], [0.5, None]).n == 0
    same = paired_difference([0.3, 0.6, 0.9], [0.2, 0.5, 0.8])
    assert same.difference == pytest.approx(0.1)
    assert (same.ci95, same.p, same.n) == (None, None, 3)
    nothing = paired_difference([0.3, 0.6], [0.3, 0.6])
    assert (nothing.difference, nothing.ci95, nothing.p) == (0.0, (0.0, 0.0), 1.0)
    with pytest.raises(ValueError, match="argument 2"):
        paired_difference([0.1, 0.2], [0.1])


def test_equal_differences_have_an_interval_where_the_noise_of_items_is_known() -> None:
    """By hand: variance .06² / 2, so the error of the mean is .06 / √6; t(2) is 4.303."""
    found = paired_difference([0.2, 0.2, 0.2], [0.9, 0.9, 0.9], noise=0.06)
    half = 4.30265 * 0.06 / 6**0.5
    assert found.ci95 == pytest.approx((-0.7 - half, -0.7 + half), abs=1e-5)
    assert found.p == pytest.approx(2 * stats.t.sf(0.7 / (0.06 / 6**0.5), 2))
    assert found.p < 0.01
    nothing = paired_difference([0.3] * 3, [0.3] * 3, noise=0.06)
    assert nothing.p == 1
    assert nothing.ci95 == pytest.approx((-half, half), abs=1e-5)
    with pytest.raises(ValueError, match="standard deviation"):
        paired_difference([0.1], [0.1], noise=-1.0)


@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=8),
    st.floats(-1, 1),
    st.floats(0.01, 0.2),
    st.floats(0, 1e-9),
)
def test_a_difference_has_no_jump_where_its_spread_becomes_zero(
    spread: list[float], mean: float, noise: float, scale: float
) -> None:
    zero = [0.0] * len(spread)
    almost = paired_difference([mean + scale * s for s in spread], zero, noise)
    equal = paired_difference([mean] * len(spread), zero, noise)
    assert almost.ci95 == pytest.approx(equal.ci95, abs=1e-6)
    assert almost.p == pytest.approx(equal.p, abs=1e-6)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=12), st.floats(0.001, 0.3))
def test_known_noise_widens_an_interval_and_less_so_with_more_pairs(values: list[float], noise: float) -> None:
    zero = [0.0] * len(values)
    plain, widened = paired_difference(values, zero), paired_difference(values, zero, noise)
    assert widened.ci95 is not None
    if plain.ci95 is not None:
        assert widened.ci95[0] <= plain.ci95[0] <= plain.ci95[1] <= widened.ci95[1]
    variance = [
        n * (n - 1) * (_half(paired_difference(values[:1] * n, [0.0] * n, noise)) / t) ** 2 for n, t in T.items()
    ]
    assert variance == pytest.approx([noise**2] * len(T))


T = {n: float(stats.t.ppf(0.975, n - 1)) for n in (3, 10)}


def _half(found: Difference) -> float:
    assert found.ci95 is not None
    return (found.ci95[1] - found.ci95[0]) / 2


@given(share=unit, n=st.integers(1, 500))
def test_the_error_of_a_score_is_that_of_right_and_wrong_answers(share: float, n: int) -> None:
    assert 0 < score_error(share, n) <= 0.5 / math.sqrt(n)
    rewards = [1.0] * round(share * n) + [0.0] * (n - round(share * n))
    assert score_error(float(np.mean(rewards)), n) == pytest.approx(np.std([*rewards, 0, 1]) / math.sqrt(n))


def test_holm_worked_by_hand() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([None]) == [None]


@given(st.lists(unit, min_size=1, max_size=10))
def test_holm_lies_between_the_plain_p_and_bonferronis_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert q is not None
        assert p <= q <= min(1.0, p * len(p_values)) + 1e-12
    ranked = [q for _, q in sorted(zip(p_values, adjusted, strict=True), key=lambda pair: pair[0])]
    assert ranked == sorted(ranked)
