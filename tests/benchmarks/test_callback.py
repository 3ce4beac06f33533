"""`benchmarks.callback`: its arithmetic, and one pair of runs on a few steps."""

import pytest
from scipy.stats import t

from benchmarks import callback


def pair(alone: float, seen: float, inside: float, ends: float) -> dict[str, dict[str, float]]:
    return {
        "without": {"steps": alone, "whole": alone + 1, "inside": 0.0, "probes": 0},
        "with": {"steps": seen, "whole": seen + 1 + ends, "inside": inside, "probes": 3},
    }


def test_shares_are_means_over_pairs_with_an_interval():
    pairs = [pair(9, 10, 0.5, 1), pair(9, 9.9, 0.4, 1), pair(19, 20, 1, 2)]
    found = callback.summarize(pairs)
    wholes = [2 / 10, 1.9 / 10, 3 / 20]
    mean = sum(wholes) / 3
    sd = (sum((x - mean) ** 2 for x in wholes) / 2) ** 0.5
    half = t.ppf(0.975, 2) * sd / 3**0.5
    assert found["whole"]["mean"] == pytest.approx(mean)
    assert found["whole"]["ci95"] == pytest.approx([mean - half, mean + half])
    assert found["steps"]["mean"] == pytest.approx((1 / 9 + 0.1 + 1 / 19) / 3)
    assert found["inside"]["mean"] == pytest.approx((0.5 / 9.5 + 0.4 / 9.5 + 1 / 19) / 3)
    assert found["inside"]["n"] == 3
