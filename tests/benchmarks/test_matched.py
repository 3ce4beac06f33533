"""`benchmarks.matched`: the simulation with a fixed seed, small. Recipes have the same curve, or a known difference."""

import pytest

from benchmarks.matched import loss, row, stream_row


@pytest.mark.parametrize(("spacing", "reported"), [(1, 14.07), (2, 14.93), (5, 19.64), (10, 22.99), (15, 23.28)])
def test_straight_lines_between_probes_overstate_the_loss_of_a_fast_learner(spacing: int, reported: float) -> None:
    """The true loss at the match is 14.07 for both, and `compare_matched` is right to a third of a point."""
    before, after = (row(spacing, None, "ten times", 0.0, 1, rule) for rule in ("before", "after"))
    assert before["loss_of_fast"] == pytest.approx(reported, abs=0.005)
    assert before["bias"] == pytest.approx(reported - 14.07, abs=0.01)
    assert abs(after["bias"]) < 0.35
    assert after["pairs_matched"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("spacing", [1, 5, 15])
def test_equal_recipes_are_seldom_said_to_differ(spacing: int) -> None:
    for faster in ("ten times", "three times"):
        before, after = (row(spacing, (96, 192), faster, 0.0, 60, rule) for rule in ("before", "after"))
        assert abs(after["bias"]) < 2
        assert after["claimed"] <= 0.07
        if (spacing, faster) in ((5, "ten times"), (15, "ten times"), (15, "three times")):
            assert before["claimed"] > 0.4
            assert before["bias"] > 4


def test_in_a_stream_a_fast_learner_of_the_same_curve_loses_more_overall_and_not_within_the_stages() -> None:
    """The first task is learned further by the fast one, which nothing matches."""
    found = stream_row(None, "three times", 1)
    assert found["bias_overall"] > 3
    assert abs(found["bias_within"]) < 0.5


@pytest.mark.slow
def test_equal_recipes_are_seldom_said_to_differ_in_a_stream() -> None:
    found = stream_row((96, 192), "three times", 60)
    assert found["claimed_overall"] > 0.4
    assert found["claimed_within"] <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("excess", [0.1, -0.1])
def test_a_real_difference_is_found_whichever_recipe_is_faster(excess: float) -> None:
    """7 points at the match. Before, probes every 15 steps hid it, or doubled it."""
    before, after = (row(15, (96, 192), "three times", excess, 30, rule) for rule in ("before", "after"))
    assert after["claimed"] > 0.6
    assert after["claimed_wrongly"] == 0
    assert abs(after["bias"]) < 1.5 < before["bias"]


def test_the_curve() -> None:
    assert loss(0.7768698, 0.0) == pytest.approx(0.1407, abs=5e-5)
    assert loss(0.5, 0.1) == pytest.approx(0.0375 + 0.05)
