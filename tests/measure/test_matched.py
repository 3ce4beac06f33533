"""`holdfast.measure.matched`: losses at a matched new-task score, against trajectories worked by hand."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from holdfast.measure.matched import compare_matched, first_crossing, rising
from summary_factory import PROFILES, TASKS, make_comparison, make_run


def run(
    points: list[tuple[float, float]],
    *,
    probed: bool = True,
    second: tuple[float, float, float] | None = None,
    chance: float = 0.0,
) -> Any:
    """A run of one stage from points (new-task score, suite's score); `second` adds the end of another.

    Args:
        chance: of the suite.
    """
    evaluations = [{"new": p[0], "old": p[1], "next": 0.0} for p in (points[0], points[-1])]
    if second:
        evaluations.append({"next": second[0], "new": second[1], "old": second[2]})
    probes = [
        {"stage": 1, "step": 10 * i, "scores": {"new": new, "old": old}}
        for i, (new, old) in enumerate(points)
        if probed
    ]
    return {
        "order": ["new", "next"] if second else ["new"],
        "sets": [
            {"name": "new", "kind": "task", "chance": 0.0},
            {"name": "next", "kind": "task", "chance": 0.0},
            {"name": "old", "kind": "retention", "chance": chance},
        ],
        "evaluations": [{"scores": {name: {"mean": v, "n": 50} for name, v in e.items()}} for e in evaluations],
        "probes": probes,
    }


GREEDY = [(0.1, 1.0), (0.24, 0.98), (0.38, 0.95), (0.52, 0.9), (0.66, 0.8), (0.8, 0.6), (0.9, 0.4)]
GENTLE = [(0.1, 1.0), (0.2, 0.99), (0.3, 0.98), (0.4, 0.96), (0.5, 0.94), (0.6, 0.9)]


def test_the_worked_example() -> None:
    # The lower best score is .6, so they are matched at .1 + .9 × .5 = .55. Greedy crosses it 3/14 of the way from
    # .52 to .66, where .9 → .8 reads .8786; gentle half-way from .5 to .6, where .94 → .9 reads .92.
    entry = compare_matched("greedy", "gentle", [(run(GREEDY), run(GENTLE))])
    assert entry["method"] == "interpolated"
    assert entry["matched_score"] == pytest.approx(0.55)
    assert (entry["loss_a"], entry["loss_b"]) == (pytest.approx(0.1 + 0.3 / 14), pytest.approx(0.08))
    assert entry["difference"] == pytest.approx(0.02 + 0.3 / 14)
    assert entry["bounds"] == {
        "a": pytest.approx([0.1, 0.2]),
        "b": pytest.approx([0.06, 0.1]),
        "difference": pytest.approx([0.0, 0.14]),
    }
    assert entry["within_stage"]["bounds"] == entry["bounds"]
    assert (entry["ci95"], entry["p"], entry["n"]) == (None, None, 1)
    end = entry["end_of_stage"]
    assert (end["loss_a"], end["loss_b"], end["new_task_gap"]) == (
        pytest.approx(0.6),
        pytest.approx(0.1),
        pytest.approx(0.3),
    )
    assert (entry["stages_used"], entry["stages_skipped"], entry["stages_too_wide"]) == (1, 0, 0)
    (stage,) = entry["stages"]
    assert (stage["n"], stage["gap_a"], stage["gap_b"]) == (1, pytest.approx(0.14), pytest.approx(0.1))


def test_swapping_the_two_changes_the_sign_only() -> None:
    pairs = [(run(GREEDY), run(GENTLE)), (run(GREEDY), run([*GENTLE[:4], (0.5, 0.9), (0.62, 0.7)]))]
    ab = compare_matched("a", "b", pairs)
    ba = compare_matched("b", "a", [(y, x) for x, y in pairs])
    assert ba["difference"] == pytest.approx(-ab["difference"])
    assert ba["p"] == pytest.approx(ab["p"])
    assert ba["matched_score"] == pytest.approx(ab["matched_score"])
    assert ba["bounds"]["difference"] == pytest.approx([-x for x in reversed(ab["bounds"]["difference"])])


def test_a_match_across_a_wide_gap_is_refused() -> None:
    """Between .1 and .9 a loss of .4 says nothing about the loss at .55."""
    jump = [(0.1, 1.0), (0.9, 0.6), (0.92, 0.58)]
    for pair, sign in (((run(jump), run(GENTLE)), 1), ((run(GENTLE), run(jump)), -1)):
        entry = compare_matched("a", "b", [pair])
        assert (entry["difference"], entry["matched_score"], entry["bounds"]) == (None, None, None)
        assert (entry["stages_used"], entry["stages_skipped"], entry["stages_too_wide"]) == (0, 1, 1)
        assert entry["end_of_stage"]["difference"] == pytest.approx(sign * 0.32)
    # The jump is harmless if the match is elsewhere.
    late = [*GENTLE, (0.9, 0.5)]
    assert compare_matched("a", "b", [(run(late), run(GENTLE))])["stages_too_wide"] == 0


def test_points_that_fall_back_are_pooled() -> None:
    points = [{"new": x, "old": y} for x, y in [(0.1, 1.0), (0.4, 0.9), (0.2, 0.8), (0.5, 0.6), (0.5, 0.5)]]
    assert rising(points, "new", ["old"]) == [
        {"new": 0.1, "old": 1.0},
        {"new": pytest.approx(0.3), "old": pytest.approx(0.85)},
        {"new": 0.5, "old": pytest.approx(0.55)},
    ]


def test_what_is_lost_after_the_best_score_is_no_part_of_learning() -> None:
    fallen = [*GENTLE, (0.4, 0.2), (0.1, 0.1)]
    assert compare_matched("a", "b", [(run(fallen), run(GENTLE))])["difference"] == pytest.approx(0.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_levels_are_the_isotonic_regression_up_to_the_last_good_point(scores: list[float]) -> None:
    """scipy's, an independent implementation, gives each point its pool's mean."""
    levels = [level["new"] for level in rising([{"new": s, "old": s} for s in scores], "new", ["old"])]
    last = max(i for i, s in enumerate(scores) if s >= max(scores) - 0.15)
    expected = isotonic_regression(scores[: last + 1]).x
    assert levels == sorted(levels)
    assert all(min(abs(level - x) for level in levels) < 1e-9 for x in expected)
    assert all(min(abs(level - x) for x in expected) < 1e-9 for level in levels)


def test_without_probes_the_end_points_stand_and_are_called_so() -> None:
    entry = compare_matched("a", "b", [(run(GREEDY, probed=False), run(GENTLE))])
    assert entry["method"] == "end points"
    assert entry["difference"] == pytest.approx(0.5)
    assert entry["matched_score"] is None
    assert entry["within_stage"] is entry["bounds"] is None


def test_a_recipe_that_never_rises_cannot_be_matched() -> None:
    stuck = run([(0.1, 1.0), (0.1, 1.0), (0.05, 1.0)])
    entry = compare_matched("a", "stuck", [(run(GREEDY), stuck)])
    assert (entry["difference"], entry["n"], entry["stages_skipped"]) == (None, 0, 1)
    assert entry["end_of_stage"]["difference"] == pytest.approx(0.6)


def test_a_later_stage_counts_what_earlier_ones_lost_and_tells_it_apart() -> None:
    def two_stages(middle: float) -> Any:
        summary = run([(0.1, 1.0), (0.2, 0.9), (0.3, 0.9), (0.4, 0.7)], second=(0.4, 0.2, 0.5))
        # Rises to .4 in steps of .1. The match is at .9 × .4 = .36, six tenths of the way from .3 to .4.
        scores = [(0.0, 0.4, 0.7), (0.1, middle, 0.65), (0.2, middle, 0.65), (0.3, 0.3, 0.6), (0.4, 0.2, 0.5)]
        summary["probes"] += [
            {"stage": 2, "step": 10 * i, "scores": {"next": a, "new": b, "old": c}}
            for i, (a, b, c) in enumerate(scores)
        ]
        return summary

    # Stage 1 at .1 + .9 × .3 = .37, seven tenths of the way from .3 to .4: .1 + .7 × .2 lost of the suite. Stage 2:
    # within it, (.1 + .1) / 2 are lost at .3 and (.2 + .2) / 2 at .4, and (0 + .3) / 2 were lost before.
    entry = compare_matched("a", "b", [(two_stages(0.4), two_stages(0.35))])
    first, second = entry["stages"]
    assert (first["loss_a"], first["within_a"]) == (pytest.approx(0.24), pytest.approx(0.24))
    assert (second["loss_a"], second["within_a"]) == (pytest.approx(0.15 + 0.16), pytest.approx(0.16))
    assert entry["loss_a"] == pytest.approx((0.24 + 0.31) / 2)
    assert entry["within_stage"]["loss_a"] == pytest.approx((0.24 + 0.16) / 2)
    assert entry["bounds"]["a"] == pytest.approx([(0.1 + 0.25) / 2, (0.3 + 0.35) / 2])
    assert entry["within_stage"]["bounds"]["a"] == pytest.approx([(0.1 + 0.1) / 2, (0.3 + 0.2) / 2])
    assert entry["difference"] == pytest.approx(0.0)


def test_a_suite_at_chance_does_not_count() -> None:
    """It has nothing to lose, so a fall there is luck, and a mean over it and another set would be half as large."""
    at_chance = [(new, 0.3 - 0.1 * new) for new, _ in GENTLE]
    entry = compare_matched("a", "b", [(run(at_chance, chance=0.25), run(GENTLE, chance=0.25))])
    assert (entry["difference"], entry["stages"]) == (None, [])
    able = compare_matched("a", "b", [(run(GREEDY, chance=0.25), run(GENTLE, chance=0.25))])
    assert able["difference"] == compare_matched("a", "b", [(run(GREEDY), run(GENTLE))])["difference"]


def test_a_set_that_was_lost_before_the_stage_does_not_make_it_look_cheap() -> None:
    """`lost` has nothing left of its suite when stage 2 starts, so only the task of stage 1 counts within it."""

    def two_stages(old: float, new: float) -> Any:
        """The suite after stage 1, and the first task at the end of stage 2."""
        points = [(0.1, 1.0), (0.2, 0.9), (0.3, 0.9), (0.4, old)]
        summary = run(points, second=(0.3, new, 0.0))
        summary["probes"] += [
            {
                "stage": 2,
                "step": i,
                "scores": {"next": i / 10, "new": 0.4 + (new - 0.4) * i / 3, "old": old * (1 - i / 3)},
            }
            for i in range(4)
        ]
        return summary

    kept, lost = two_stages(0.6, 0.25), two_stages(0.0, 0.1)
    entry = compare_matched("kept", "lost", [(kept, lost)])
    second = entry["stages"][1]
    # At .9 × .3 = .27, nine tenths of the way.
    assert (second["within_a"], second["within_b"]) == (pytest.approx(0.9 * 0.15), pytest.approx(0.9 * 0.3))
    assert second["loss_b"] == pytest.approx((1.0 + 0.9 * 0.3) / 2)
    alone = compare_matched("lost", "lost", [(lost, lost)])
    assert alone["stages"][1]["within_a"] == pytest.approx(0.9 * 0.3)


def test_where_no_set_has_anything_left_only_the_whole_loss_is_known() -> None:
    gone = run([(0.1, 1.0), (0.2, 0.5), (0.3, 0.2), (0.4, 0.0)], second=(0.3, 0.0, 0.0))
    gone["order"] = ["new", "next"]
    gone["evaluations"][1]["scores"]["new"]["mean"] = 0.0
    gone["probes"] += [{"stage": 2, "step": i, "scores": {"next": i / 10, "new": 0.0, "old": 0.0}} for i in range(4)]
    entry = compare_matched("a", "b", [(gone, gone)])
    assert entry["stages"][1]["within_a"] is None
    assert entry["stages"][1]["loss_a"] == pytest.approx(1.0)


def test_nothing_earlier_and_no_runs_give_no_number() -> None:
    alone = make_run("sft", order=TASKS[:1], suites=(), n=20)
    for pairs in ([(alone, alone)], []):
        entry = compare_matched("a", "b", pairs)
        assert (entry["difference"], entry["n"], entry["stages"]) == (None, 0, [])


def test_stages_of_an_unfinished_run_are_left_out() -> None:
    done, going = make_run("sft", n=50), make_run("sdft", stages=2, n=50)
    entry = compare_matched("sft", "sdft", [(done, going)])
    assert [s["stage"] for s in entry["stages"]] == [1, 2]


def test_identical_recipes_do_not_differ() -> None:
    run_a = make_run("sft", n=50)
    entry = compare_matched("a", "b", [(run_a, run_a)] * 3)
    assert (entry["difference"], entry["p"]) == (0.0, 1.0)


def test_a_real_difference_is_found_over_three_seeds_and_none_between_twins() -> None:
    summary = make_comparison(("sft", "sdft"), n=300)
    (entry,) = summary["matched"]
    assert entry["ci95"][0] > 0
    assert entry["p_holm"] == entry["p"] < 0.05
    (twins,) = make_comparison(("sft", "sdft"), n=300, profiles={"sft": PROFILES["sdft"]})["matched"]
    assert twins["ci95"][0] < 0 < twins["ci95"][1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 1))
def test_first_crossing_reads_the_score_it_was_asked_for(new: list[float], share: float) -> None:
    target = share * max(new)
    i, along = first_crossing(new, target)
    assert 0 <= along <= 1
    if along == 0 and i == 0 and new[0] >= target:
        return
    assert all(value < target for value in new[: i + 1])
    assert new[i] + along * (new[i + 1] - new[i]) == pytest.approx(target)


def test_first_crossing_says_when_there_is_none() -> None:
    with pytest.raises(ValueError, match="never reaches"):
        first_crossing([0.1, 0.2], 0.3)
