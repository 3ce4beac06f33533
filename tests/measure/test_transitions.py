"""`holdfast.measure.transitions`: every item is kept, lost, gained or never solved."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.measure.transitions import Transitions, transitions


def test_the_four_cases() -> None:
    assert transitions([1, 1, 0, 0, 1], [1, 0, 1, 0, 1]) == Transitions(kept=2, lost=1, gained=1, never=1)
    assert transitions([0.5, 0.5, 0.5, 0.0], [0.5, 0.2, 0.9, 0.1]) == Transitions(kept=1, lost=1, gained=2, never=0)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1))
def test_counts_add_up_to_the_items_and_to_the_change(pairs: list[tuple[int, int]]) -> None:
    before, after = zip(*pairs, strict=True)
    found = transitions(before, after)
    assert sum(found.as_json().values()) == len(pairs)
    assert found.gained - found.lost == sum(after) - sum(before)
    assert found.kept + found.lost == sum(before)
    back = transitions(after, before)
    assert (back.lost, back.gained) == (found.gained, found.lost)


def test_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        transitions([1.0], [1.0, 0.0])
