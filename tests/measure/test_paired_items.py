"""`holdfast.measure.paired_items`: against scipy's exact test, and what every interval must hold."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from holdfast.measure.paired_items import compare_paired

verdicts = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80)
graded = st.lists(st.tuples(*2 * [st.sampled_from((0.0, 0.1, 0.25, 0.5, 0.9, 1.0))]), min_size=1, max_size=40)


def _sides(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [float(a) for a, _ in pairs], [float(b) for _, b in pairs]


def test_right_on_all_twenty_items_where_the_other_is_right_on_none_is_better() -> None:
    found = compare_paired([1.0] * 20, [0.0] * 20)
    assert found.verdict == "better"
    assert found.ci95[0] > 0.5
    assert found.ci95[1] == 1
    assert found.p == pytest.approx(2**-19)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 20, 400])
@pytest.mark.parametrize("score", [0.0, 0.3, 1.0])
def test_items_that_are_all_equal_show_nothing_and_leave_room_for_a_difference(n: int, score: float) -> None:
    found = compare_paired([score] * n, [score] * n)
    assert (found.verdict, found.p, found.difference) == ("not shown", 1.0, 0.0)
    low, high = found.ci95
    assert low == pytest.approx(-high)
    assert high >= 0.9 * 3.84 / (n + 3.84)


@pytest.mark.parametrize("size", [0.3, 1.0])
def test_equal_differences_of_enough_items_are_a_verdict(size: float) -> None:
    """Five equal differences are as likely as 1 in 16 by chance, six as 1 in 32."""
    few, enough = (compare_paired([size] * n, [0.0] * n) for n in (5, 40))
    assert (few.verdict, enough.verdict) == ("not shown", "better")


@given(verdicts)
def test_p_is_that_of_the_exact_test(pairs: list[tuple[float, float]]) -> None:
    first, second = _sides(pairs)
    up, down = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    expected = stats.binomtest(up, up + down).pvalue if up + down else 1.0
    assert compare_paired(first, second).p == pytest.approx(expected)


def test_the_exact_test_is_never_more_certain_than_the_interval() -> None:
    """The least decided outcome that is a verdict, for every number of items that differ."""
    for differing in [*range(6, 60), 100, 200, 399]:
        up = next(k for k in range(differing // 2, differing + 1) if 2 * stats.binom.sf(k - 1, differing, 0.5) < 0.05)
        first, second = [1.0] * up + [0.0] * (differing - up), [0.0] * up + [1.0] * (differing - up)
        found = compare_paired(first, second)
        assert found.p < 0.05
        assert found.ci95[0] > 0


@settings(deadline=None, max_examples=150)
@given(verdicts | graded)
def test_the_interval_agrees_with_the_test_and_stays_on_the_scale(pairs: list[tuple[float, float]]) -> None:
    first, second = _sides(pairs)
    found, swapped = compare_paired(first, second), compare_paired(second, first)
    low, high = found.ci95
    assert -1 <= low <= found.difference + 1e-9
    assert found.difference - 1e-9 <= high <= 1
    assert (found.p < 0.05) == (not low <= 0 <= high) == (found.verdict != "not shown")
    assert swapped.verdict == {"better": "worse", "worse": "better", "not shown": "not shown"}[found.verdict]
    assert swapped.ci95 == pytest.approx((-high, -low), abs=1e-6)
    assert swapped.p == pytest.approx(found.p, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(verdicts | graded, st.integers(2, 4))
def test_more_items_of_the_same_kind_narrow_the_interval(pairs: list[tuple[float, float]], times: int) -> None:
    once, more = compare_paired(*_sides(pairs)), compare_paired(*_sides(pairs * times))
    assert more.p <= once.p + 1e-9
    # Once the test decides, the interval no longer reaches out for 0, so it never grows.
    assert more.ci95[1] - more.ci95[0] <= once.ci95[1] - once.ci95[0] + 1e-6


@pytest.mark.parametrize(("first", "second"), [([], []), ([1.0], [1.0, 0.0]), ([-0.5], [0.0]), ([float("nan")], [0.0])])
def test_scores_that_cannot_be_compared_are_refused(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match="score"):
        compare_paired(first, second)


def test_weighted_items_may_score_more_than_1_and_scale_with_their_weights() -> None:
    first, second = [1.5, 0.5] * 20, [0.5, 0.5] * 20
    weighted = compare_paired(first, second)
    plain = compare_paired([x / 1.5 for x in first], [x / 1.5 for x in second])
    assert weighted.p == pytest.approx(plain.p, rel=1e-6)
    assert weighted.ci95 == pytest.approx([1.5 * bound for bound in plain.ci95], rel=1e-6)
