"""`holdfast.data.batch_metrics`: the metrics of a rollout batch."""

import pytest

from holdfast.data.batch_metrics import distinct, repetition, rollout_numbers
from holdfast.data.example import Example, Verdict
from holdfast.data.rows import Group, Row


def test_repetition_of_a_completion() -> None:
    assert repetition([1, 2, 3, 4, 5]) == 0
    assert repetition([7] * 11) == pytest.approx(0.9)
    assert repetition([1, 2, 1, 2, 1, 2]) == pytest.approx(1 - 2 / 5)
    assert repetition([7, 7]) == 0


def test_distinct_ngrams_of_a_batch() -> None:
    assert distinct([[1, 2, 3], [4, 5]]) == 1
    assert distinct([[1, 2, 1, 2], [1, 2]]) == pytest.approx(2 / 4)  # 12 21 12, and 12 in another completion
    assert distinct([[1, 1, 1]], n=1) == pytest.approx(1 / 3)
    assert distinct([[1], []]) is None


def test_answers_that_were_not_judged_are_counted_whether_they_became_rows_or_not() -> None:
    example = Example("a", ())
    late, wrong = Verdict(0.0, failure="timeout", reason="late"), Verdict(0.0, failure="error", reason="wrong")
    rows = [Row(example, [1], [2], verdict=verdict) for verdict in (Verdict(1.0), late, None)]
    numbers = rollout_numbers([Group(example, rows, extra_verdicts=[wrong, Verdict(0.0), wrong, None])])
    assert (numbers["verifier_timeouts"], numbers["verifier_errors"]) == (1, 2)
    assert numbers["verifier_failures"] == ["late", "wrong", "wrong"]
    assert numbers["reward"] == 0.5
