"""`holdfast.data.batch_metrics`: the metrics of a rollout batch."""

import pytest

from holdfast.data.batch_metrics import distinct, repetition


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
