"""`holdfast.measure.calibration`: closed forms, the exact bias against simulation, and what must not matter."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.measure.calibration import BINS, calibration

ITEMS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


def test_one_bin_per_item_with_few_items() -> None:
    found = calibration([0.9, 0.4, 0.7], [True, True, False])
    assert found["ece"] == pytest.approx((0.1 + 0.6 + 0.7) / 3)
    # Alone in its bin, an item of confidence c is off by 1 − c with probability c, and by c otherwise.
    assert found["ece_if_calibrated"] == pytest.approx(sum(2 * c * (1 - c) for c in (0.9, 0.4, 0.7)) / 3)
    assert (found["confidence"], found["n"]) == (pytest.approx(2 / 3), 3)


def test_bins_have_equal_numbers_of_items() -> None:
    """Thirty items in fifteen bins of two, each bin with one right answer more than its confidences say."""
    confidence = [i / 100 for i in range(30)]
    right = [i % 2 == 0 for i in range(30)]
    expected = sum(abs(1 - (2 * i + 2 * i + 1) / 100) for i in range(BINS)) / 30
    assert calibration(confidence, right)["ece"] == pytest.approx(expected)


def test_a_sure_model_that_is_wrong_is_off_by_all_and_has_no_bias() -> None:
    assert calibration([1.0] * 40, [False] * 40) == {"ece": 1, "ece_if_calibrated": 0, "confidence": 1, "n": 40}
    assert calibration([1.0] * 40, [True] * 40)["ece"] == 0


def test_the_bias_is_what_a_calibrated_model_shows() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.beta(2, 2, 90)
    draws = [calibration(confidence, rng.random(90) < confidence) for _ in range(2000)]
    values = [draw["ece"] for draw in draws]
    error = np.std(values) / math.sqrt(len(values))
    assert draws[0]["ece_if_calibrated"] == pytest.approx(np.mean(values), abs=4 * error)
    assert draws[0]["ece_if_calibrated"] > 0.1  # not negligible: 6 items in a bin
    many = calibration(np.tile(confidence, 20), np.tile(rng.random(90) < 0.5, 20))
    assert many["ece_if_calibrated"] < draws[0]["ece_if_calibrated"] / 3


@given(ITEMS, st.randoms())
def test_the_order_of_items_does_not_matter(items: list[tuple[float, bool]], random: object) -> None:
    """Nor among items of the same confidence, which a border between bins may part."""
    items = [(round(sure, 1), right) for sure, right in items]
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (calibration(*map(list, zip(*each))) for each in (items, shuffled))
    assert one == pytest.approx(other)
    assert 0 <= one["ece"] <= 1
    assert abs(one["confidence"] - sum(right for _, right in items) / len(items)) <= one["ece"] + 1e-9
