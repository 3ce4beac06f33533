"""`holdfast.measure.matched`: losses at a matched new-task score, against trajectories worked by hand."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.measure.matched import compare_matched, first_crossing
from summary_factory import PROFILES, TASKS, make_comparison, make_run


def run(
    points: list[tuple[float, float]], *, probed: bool = True, second: tuple[float, float, float] | None = None
) -> Any:
    """A run of one stage from points (new-task score, suite's score); `second` adds the end of another."""
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
            {"name": "new", "kind": "task"},
            {"name": "next", "kind": "task"},
            {"name": "old", "kind": "retention"},
        ],
        "evaluations": [{"scores": {name: {"mean": v} for name, v in e.items()}} for e in evaluations],
        "probes": probes,
    }


GREEDY = [(0.1, 1.0), (0.5, 0.8), (0.9, 0.4)]
GENTLE = [(0.1, 1.0), (0.3, 0.98), (0.7, 0.9)]


def test_the_worked_example() -> None:
    # s* = .7: greedy reaches it half-way between .5 and .9, where .8 → .4 reads .6; gentle reaches it at its end.
    entry = compare_matched("greedy", "gentle", [(run(GREEDY), run(GENTLE))])
    assert entry["method"] == "interpolated"
    assert entry["matched_score"] == pytest.approx(0.7)
    assert (entry["loss_a"], entry["loss_b"]) == (pytest.approx(0.4), pytest.approx(0.1))
    assert entry["difference"] == pytest.approx(0.3)
    assert (entry["ci95"], entry["p"], entry["n"]) == (None, None, 1)
    end = entry["end_of_stage"]
    assert (end["loss_a"], end["loss_b"], end["new_task_gap"]) == (
        pytest.approx(0.6),
        pytest.approx(0.1),
        pytest.approx(0.2),
    )
    assert (entry["stages_used"], entry["stages_skipped"]) == (1, 0)


def test_swapping_the_two_changes_the_sign_only() -> None:
    pairs = [(run(GREEDY), run(GENTLE)), (run(GREEDY), run([(0.1, 1.0), (0.4, 0.9), (0.8, 0.7)]))]
    ab = compare_matched("a", "b", pairs)
    ba = compare_matched("b", "a", [(y, x) for x, y in pairs])
    assert ba["difference"] == pytest.approx(-ab["difference"])
    assert ba["p"] == pytest.approx(ab["p"])
    assert ba["matched_score"] == pytest.approx(ab["matched_score"])


def test_without_probes_the_end_points_stand_and_are_called_so() -> None:
    entry = compare_matched("a", "b", [(run(GREEDY, probed=False), run(GENTLE))])
    assert entry["method"] == "end points"
    assert entry["difference"] == pytest.approx(0.5)
    assert entry["matched_score"] is None
    assert entry["within_stage"] is None


def test_a_recipe_that_never_rises_cannot_be_matched() -> None:
    stuck = run([(0.1, 1.0), (0.1, 1.0), (0.05, 1.0)])
    entry = compare_matched("a", "stuck", [(run(GREEDY), stuck)])
    assert (entry["difference"], entry["n"], entry["stages_skipped"]) == (None, 0, 1)
    assert entry["end_of_stage"]["difference"] == pytest.approx(0.6)


def test_a_later_stage_counts_what_earlier_ones_lost_and_tells_it_apart() -> None:
    def two_stages(middle: float) -> Any:
        summary = run([(0.1, 1.0), (0.5, 0.9), (0.9, 0.7)], second=(0.8, 0.6, 0.5))
        scores = [{"next": 0.0, "new": 0.9, "old": 0.7}, {"next": 0.4, "new": middle, "old": 0.6}]
        scores.append({"next": 0.8, "new": 0.6, "old": 0.5})
        summary["probes"] += [{"stage": 2, "step": 10 * i, "scores": s} for i, s in enumerate(scores)]
        return summary

    # Stage 1, both at .9: lost .3 of the suite. Stage 2, both at .8: new fell .9 → .6 and the suite 1.0 → .5; of the
    # mean loss .4, the stage itself took (.3 + .2) / 2.
    entry = compare_matched("a", "b", [(two_stages(0.8), two_stages(0.7))])
    first, second = entry["stages"]
    assert (first["loss_a"], first["within_a"]) == (pytest.approx(0.3), pytest.approx(0.3))
    assert (second["loss_a"], second["within_a"]) == (pytest.approx(0.4), pytest.approx(0.25))
    assert entry["loss_a"] == pytest.approx((0.3 + 0.4) / 2)
    assert entry["within_stage"]["loss_a"] == pytest.approx((0.3 + 0.25) / 2)
    assert entry["difference"] == pytest.approx(0.0)


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
