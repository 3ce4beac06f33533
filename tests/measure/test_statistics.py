"""`holdfast.measure.statistics`: intervals and tests against scipy's, and cases without information."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from holdfast.measure.statistics import (
    holm,
    largest_margin,
    mean_interval,
    paired_difference,
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


def test_graded_rewards_get_a_t_interval_cut_to_the_scale() -> None:
    rewards = [0.2, 0.5, 0.5, 1.0, 0.3]
    expected = stats.ttest_1samp(rewards, 0).confidence_interval(0.95)
    assert score_interval(rewards) == pytest.approx((expected.low, expected.high))
    assert score_interval([0.9, 1.0, 1.0])[1] == 1.0


def test_equal_graded_rewards_are_not_called_certain() -> None:
    assert score_interval([0.5] * 40) == pytest.approx(wilson_interval(0.5, 40))


def test_of_nothing_nothing_is_known() -> None:
    assert score_interval([]) == score_interval([0.3]) == wilson_interval(0.0, 0) == (0.0, 1.0)
    assert largest_margin(0) == largest_margin(1, graded=True) == 0.5


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
