"""`holdfast.measure.pass_at_k`: the estimator against enumeration of all subsets, and its unbiasedness."""

import math
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.measure.pass_at_k import pass_at_k, sampled_numbers

SAMPLES = st.integers(1, 9).flatmap(
    lambda n: st.tuples(st.lists(st.booleans(), min_size=n, max_size=n), st.integers(1, n))
)


@given(SAMPLES)
def test_it_is_the_share_of_all_choices_of_k_samples_with_a_right_one(drawn: tuple[list[bool], int]) -> None:
    right, k = drawn
    choices = list(combinations(right, k))
    share = Fraction(sum(any(choice) for choice in choices), len(choices))
    assert pass_at_k(len(right), sum(right), k) == pytest.approx(float(share), abs=1e-12)


@given(st.floats(0, 1), st.integers(1, 12), st.data())
def test_it_is_unbiased(p: float, n: int, data: st.DataObject) -> None:
    """Its mean over the binomial distribution of right samples is the true probability 1 − (1 − p)^k."""
    k = data.draw(st.integers(1, n))
    expected = sum(math.comb(n, c) * p**c * (1 - p) ** (n - c) * pass_at_k(n, c, k) for c in range(n + 1))
    assert expected == pytest.approx(1 - (1 - p) ** k, abs=1e-9)


@given(st.integers(1, 200), st.data())
def test_it_rises_with_right_samples_and_with_k_and_stays_in_bounds(n: int, data: st.DataObject) -> None:
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    value = pass_at_k(n, correct, k)
    assert 0 <= value <= 1
    assert value >= (pass_at_k(n, correct - 1, k) if correct else 0)
    assert value >= (pass_at_k(n, correct, k - 1) if k > 1 else 0)
    assert pass_at_k(n, correct, 1) == pytest.approx(correct / n)
    assert pass_at_k(n, correct, n) == (correct > 0)


def test_numbers_of_a_set() -> None:
    items = [{"n": 4, "correct": 4, "reward": 1.0}, {"n": 4, "correct": 1, "reward": 0.5}]
    numbers = sampled_numbers(items, (2, 1), 0.7)
    assert (numbers["num_samples"], numbers["temperature"], numbers["avg_at_k"]) == (4, 0.7, 0.75)
    assert [(each["k"], each["mean"]) for each in numbers["pass_at_k"]] == [(1, 0.625), (2, 0.75)]
    for low, high in [numbers["avg_at_k_ci95"], *(each["ci95"] for each in numbers["pass_at_k"])]:
        assert 0 <= low < high <= 1
