"""`holdfast.measure.likelihood`: a set's NLL, and the paired change between two evaluations."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from holdfast.measure.likelihood import NO_CHANGE, forced_answers, nll_change, probability_change, set_nll


def items(*values: float | None, tokens: int = 4) -> list[dict[str, Any] | None]:
    return [None if value is None else {"nll": value, "tokens": tokens} for value in values]


def test_a_set_is_the_sum_over_tokens_divided_by_their_number() -> None:
    known = set_nll([{"nll": 3.0, "tokens": 1}, None, {"nll": 1.0, "tokens": 3}])
    assert known is not None
    assert (known.mean, known.prompts) == (1.5, 2)
    assert set_nll([None, None]) is None
    assert set_nll([]) is None


@pytest.mark.parametrize("broken", [None, math.nan, math.inf])
def test_an_item_whose_nll_is_not_finite_is_left_out(broken: float | None) -> None:
    """JSON has null for it."""
    with_broken: list[Any] = [*items(1.0, 2.0), {"nll": broken, "tokens": 4}]
    known = set_nll(with_broken)
    assert known is not None
    assert (known.mean, known.prompts) == (1.5, 2)
    change = nll_change(with_broken, items(0.5, 1.5, 9.0))
    assert change is not None
    assert change.n == 2


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), min_size=3, max_size=20))
def test_with_equal_lengths_the_interval_is_that_of_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    before, after = np.array(pairs).T
    change = nll_change(items(*before), items(*after))
    assert change is not None
    differences = after - before
    assert change.change == pytest.approx(differences.mean(), abs=1e-9)
    assert change.ci95 is not None
    error = differences.std(ddof=1) / math.sqrt(len(pairs))
    half = stats.t.ppf(0.975, len(pairs) - 1) * error
    assert change.ci95 == pytest.approx((differences.mean() - half, differences.mean() + half), abs=1e-6)


@given(
    st.lists(st.tuples(st.floats(0.01, 9), st.floats(0.01, 9), st.integers(1, 30)), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_exchange_mirrors_and_order_does_not_matter(rows: list[tuple[float, float, int]], rng: Any) -> None:
    def change(a: int, b: int) -> Any:
        return nll_change(*([{"nll": row[side], "tokens": row[2]} for row in rows] for side in (a, b)))

    forth, back = change(0, 1), change(1, 0)
    assert forth.change == pytest.approx(-back.change, abs=1e-9)
    assert {forth.outcome, back.outcome} in ({"fell", "rose"}, {"not shown"})
    rng.shuffle(rows)
    assert change(0, 1).change == pytest.approx(forth.change, abs=1e-9)
    assert (forth.ci95 is None) is (len(rows) == 1)


def test_what_a_change_shows() -> None:
    def outcome(*after: float) -> str:
        change = nll_change(items(*[2.0] * len(after)), items(*after))
        assert change is not None
        return change.outcome

    assert outcome(1.0, 1.1, 0.9) == "fell"
    assert outcome(3.0, 3.1, 2.9) == "rose"
    assert outcome(1.0, 3.1, 2.9) == "not shown"
    assert outcome(1.0) == "not shown"  # one item has no interval
    assert outcome(2.0, 2.0, 2.0) == "not shown"
    assert outcome(*[2.0 - NO_CHANGE / 2] * 3) == "not shown"  # rounding is no learning


def test_only_items_that_both_evaluations_have_are_compared() -> None:
    change = nll_change(items(1.0, 2.0, None), [None, *items(1.5, 1.0)])
    assert change is not None
    assert (change.n, change.before, change.after) == (1, 2.0, 1.5)
    assert nll_change(items(1.0), items(1.0, tokens=5)) is None
    assert nll_change(items(None), items(1.0)) is None


def test_forced_answers_by_hand() -> None:
    """NLLs of whole targets are 0.2, 1.2 and 0: the first has two tokens, the second three."""
    targets = [{"nll": 0.1, "tokens": 2}, None, {"nll": 0.4, "tokens": 3}, {"nll": 0.0, "tokens": 1}]
    found = forced_answers(targets)
    assert found is not None
    sums, chances = [0.2, 1.2, 0.0], [math.exp(-0.2), math.exp(-1.2), 1.0]
    assert found["nll"] == pytest.approx(1.4 / 3)
    assert found["nll_per_token"] == pytest.approx(1.4 / 6)
    assert found["probability"] == pytest.approx(sum(chances) / 3)
    assert found["nll_se"] == pytest.approx(np.std(sums, ddof=1) / math.sqrt(3))
    assert found["probability_se"] == pytest.approx(np.std(chances, ddof=1) / math.sqrt(3))
    assert found["n"] == 3
    one = forced_answers([targets[0]])
    assert one is not None
    assert (one["nll_se"], one["probability_se"]) == (None, None)
    assert forced_answers([None]) is None
    assert forced_answers([]) is None


def test_the_change_of_the_probability_is_paired() -> None:
    before = [{"nll": 0.5 * i, "tokens": 2} for i in range(6)]
    after = [{"nll": 0.5 * i + 0.1, "tokens": 2} for i in range(6)]
    found = probability_change([*before, None], [*after, before[0]])
    assert found is not None
    differences = [math.exp(-i - 0.2) - math.exp(-i) for i in range(6)]
    assert found.change == pytest.approx(np.mean(differences))
    assert found.after - found.before == pytest.approx(found.change)
    half = stats.t.ppf(0.975, 5) * np.std(differences, ddof=1) / math.sqrt(6)
    assert found.ci95 == pytest.approx((found.change - half, found.change + half))
    assert found.n == 6
    assert probability_change(before, before).outcome == "not shown"
    assert probability_change([{"nll": 3.0, "tokens": 1}] * 2, [{"nll": 0.1, "tokens": 1}] * 2).outcome == "rose"
    assert probability_change([None], [before[0]]) is None
