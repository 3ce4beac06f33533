"""`benchmarks.intervals`: rows with a fixed seed, small."""

import numpy as np
import pytest

from benchmarks import intervals


@pytest.mark.parametrize("name", intervals.REWARDS)
def test_the_mean_of_a_distribution_is_its_mean(name: str) -> None:
    draw, truth = intervals.REWARDS[name]
    drawn = draw(np.random.default_rng(0), (200, 200))
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert drawn.mean() == pytest.approx(truth, abs=0.012)


@pytest.mark.parametrize("name", intervals.VALUES)
def test_mean_and_spread_over_runs_are_what_they_are_said_to_be(name: str) -> None:
    draw, truth, sd = intervals.VALUES[name]
    drawn = draw(np.random.default_rng(0), (1000, 200))
    assert drawn.mean() == pytest.approx(truth, abs=0.03)
    assert drawn.std() == pytest.approx(sd, rel=0.05)


def test_intervals_near_one_cover_after_the_mend_and_not_before() -> None:
    row = intervals.score_row("98% are 1, others uniform", 96, 800)
    assert row["before"] < 0.8
    assert row["after"] > 0.94
    middle = intervals.score_row("uniform", 96, 800)
    assert middle["width_after"] == pytest.approx(middle["width_before"], rel=0.03)


def test_skewed_values_over_runs_cover_too_little_without_noise() -> None:
    row = intervals.run_row("exponential", 4, 1500)
    assert 0.85 < row["plain"] < 0.91
    assert row["plain"] < row["noise of half the sd"] < row["noise of the sd"]


def test_equal_differences_are_the_limit_of_almost_equal_ones() -> None:
    *_, almost, equal = intervals.equal_rows()
    assert equal["before"]["ci95"] is None
    assert almost["before"]["p"] < 1e-12
    assert equal["after"]["ci95"] == pytest.approx(almost["after"]["ci95"], abs=1e-6)
    assert 0.0001 < equal["after"]["p"] < 0.01
