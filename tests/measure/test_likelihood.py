"""`holdfast.measure.likelihood`: a set's NLL, and the paired change between two evaluations."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from holdfast.measure.likelihood import NO_CHANGE, nll_change, set_nll


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
