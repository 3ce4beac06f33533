"""`holdfast.measure.chance`: when a score is above chance, and when answers are all the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from holdfast.measure.chance import (
    LUCK,
    are_nearly_all_the_same,
    constant_answer_score,
    is_above_chance,
    most_frequent,
)


@given(st.integers(1, 200), st.data(), st.floats(0, 0.9))
def test_the_test_is_the_exact_binomial(n: int, data: st.DataObject, chance: float) -> None:
    right = data.draw(st.integers(0, n))
    p = binom.sf(right - 1, n, max(chance, LUCK))
    if abs(p - 0.05) > 1e-9:
        assert is_above_chance(right / n, n, chance) is bool(p < 0.05)


@given(st.integers(2, 100), st.floats(0, 0.9), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_score_is_never_less_above_chance(n: int, chance: float, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert is_above_chance(high, n, chance) or not is_above_chance(low, n, chance)


def test_a_model_at_chance_is_called_above_it_in_at_most_one_of_twenty_cases() -> None:
    for n, chance in ((16, 0.5), (45, 0.25), (96, 0.25), (200, 0.0)):
        level = max(chance, LUCK)
        false = sum(binom.pmf(k, n, level) for k in range(n + 1) if is_above_chance(k / n, n, chance))
        assert 0.005 < false < 0.05


def test_a_score_of_zero_is_never_above_chance() -> None:
    assert not any(is_above_chance(0.0, n, 0.0) for n in (1, 10, 10_000))
    assert is_above_chance(1 / 4, 4, 0.0)
    assert not is_above_chance(1 / 96, 96, 0.0)


def test_a_constant_answer_scores_the_share_of_items_that_accept_it() -> None:
    options = [["A"]] * 30 + [["B", "b"]] * 12 + [["C"]] * 6
    assert constant_answer_score(options) == 30 / 48
    several = [["A", "B"]] * 10 + [["B"]] * 10
    assert constant_answer_score(several) == 1.0


def test_answers_that_are_no_options_set_no_chance_level() -> None:
    """Of four items with different answers, each is right for a quarter. That is no chance level of .25."""
    assert constant_answer_score([[str(i)] for i in range(4)]) == 0.0
    assert constant_answer_score([[str(i // 5)] for i in range(100)]) == 0.0
    assert constant_answer_score([["done"]] * 50) == 0.0
    assert constant_answer_score([]) == 0.0


def test_the_most_frequent_answer_and_when_nearly_all_are_the_same() -> None:
    found = most_frequent(["B"] * 44 + [" B\n"])
    assert found is not None
    assert (found.answer, found.count) == ("B", 45)
    assert most_frequent([]) is None
    assert most_frequent(["x" * 200]).answer == "x" * 80  # type: ignore[union-attr]
    assert are_nearly_all_the_same(45, 45, 0.27)
    assert are_nearly_all_the_same(45, 45, None)
    assert not are_nearly_all_the_same(45, 45, 1.0)  # all answers should be the same, and are right
    assert not are_nearly_all_the_same(40, 45, 0.27)
    assert not are_nearly_all_the_same(3, 3, 0.0)


@pytest.mark.parametrize("chance", [0.0, 0.25])
def test_graded_scores_are_judged_at_their_mean(chance: float) -> None:
    assert is_above_chance(chance + 0.31, 50, chance)
    assert not is_above_chance(chance + 0.005, 50, chance)
