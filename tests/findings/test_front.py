"""`holdfast.findings.front`: where arms stand, the front and its band, and which recipe to take."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import Commands
from holdfast.findings.front.arms import FRONT_ARMS, ORDERS, FrontArm
from holdfast.findings.front.choice import SITUATIONS, Choice, choose, held_out
from holdfast.findings.front.figure import front_figure
from holdfast.findings.front.page import as_json, as_page, table_rows
from holdfast.findings.front.pareto import front_of, resampled_means
from holdfast.findings.front.run import MeasuredFront, read_front
from holdfast.findings.front.standing import Standing
from holdfast.findings.records import RecordStore
from holdfast.findings.scheduler import ArmRun

ARMS = {arm.label: arm for arm in FRONT_ARMS}

WORLDS = range(4)


def stand(label: str, final: list[float], kept: list[float]) -> Standing:
    """An arm with the same numbers in both orders."""
    overall = [(f + k) / 2 for f, k in zip(final, kept, strict=True)]
    nothing = [0.0] * len(final)
    measures = {"final": final, "kept": kept, "overall": overall, "forgot": nothing, "nll": nothing, "tokens": nothing}
    return Standing(ARMS[label], 1e-4, {order.name: measures for order in ORDERS})


def test_arms_are_valid_distinct_and_replay_the_same_share() -> None:
    labels = set()
    for arm in FRONT_ARMS:
        for order in ORDERS:
            run = arm.in_order(order, 1e-4)
            labels.add(run.label)
            recipe = run.config(0, 1e-4, full=True).recipe
            assert recipe.rollout_spec().replay_ratio == (0.5 if arm.replays else 0.0), run.label
            assert recipe.blend_share == (0.7 if arm.blends else 1.0), run.label
    assert len(labels) == len(FRONT_ARMS) * len(ORDERS) == 52


def test_both_orders_have_the_same_tasks() -> None:
    first, second = ORDERS
    assert sorted(first.tasks) == sorted(second.tasks)
    assert list(first.tasks) != list(second.tasks)


def test_an_arm_that_is_beaten_on_both_is_not_on_the_front() -> None:
    front = front_of(
        [
            stand("sft", [50, 52, 51, 53], [60, 61, 60, 62]),
            stand("sdft", [60, 62, 61, 63], [80, 81, 80, 82]),
            stand("grpo", [40, 42, 41, 43], [90, 91, 90, 92]),
        ]
    )
    assert front.on_front == ("sdft", "grpo")
    assert front.shares == {"sft": 0.0, "sdft": 1.0, "grpo": 1.0}
    assert front.band.final == (41.5, 51.5, 61.5)
    assert front.band.mean == (90.75, 80.75, 80.75)
    assert all(low <= mean <= high for low, mean, high in zip(front.band.low, front.band.mean, front.band.high))


def test_equal_arms_share_the_front() -> None:
    front = front_of(
        [stand("sft", [50, 60, 55, 45], [60, 70, 50, 40]), stand("sdft", [50, 60, 55, 45], [60, 70, 50, 40])]
    )
    assert front.on_front == ("sft", "sdft")
    assert set(front.shares.values()) == {1.0}


def test_arms_that_worlds_do_not_tell_apart_are_on_the_front_in_a_part_of_the_resamples() -> None:
    front = front_of(
        [stand("sft", [50, 60, 40, 70], [60, 50, 70, 40]), stand("sdft", [55, 52, 49, 66], [61, 46, 75, 42])]
    )
    assert all(0 < share < 1 for share in front.shares.values())


@given(st.lists(st.lists(st.floats(0, 100), min_size=3, max_size=3), min_size=1, max_size=4))
def test_resampled_means_lie_within_the_worlds(values: list[list[float]]) -> None:
    array = np.array(values)
    drawn = resampled_means(array)
    assert (drawn >= array.min(1) - 1e-9).all()
    assert (drawn <= array.max(1) + 1e-9).all()
    assert (resampled_means(array) == drawn).all()


def situation(text: str, standings: list[Standing]) -> Choice | None:
    return choose(next(each for each in SITUATIONS if each.text == text), standings)


def test_a_choice_names_the_best_arm_that_can_be_run() -> None:
    standings = [
        stand("sft", [50, 52, 51, 53], [60, 61, 60, 62]),
        stand("sdft", [60, 62, 61, 63], [80, 81, 80, 82]),
        stand("sdft + replay", [70, 72, 71, 73], [85, 86, 85, 87]),
        stand("grpo", [70, 73, 72, 73], [90, 91, 90, 92]),
        stand("grpo + replay", [71, 73, 72, 73.5], [90, 91, 90, 92]),
        stand("opr", [90, 92, 91, 93], [95, 96, 95, 97]),
    ]
    best = {each.text: choose(each, standings) for each in SITUATIONS}
    labels = {text: None if choice is None else choice.best.arm.label for text, choice in best.items()}
    assert labels == {
        "demonstrations, no verifier, nothing stored": "sdft",
        "demonstrations, no verifier, earlier data stored": "sdft + replay",
        "demonstrations and a verifier, nothing stored": "grpo",
        "demonstrations and a verifier, earlier data stored": "opr",
        "a verifier, no demonstrations, nothing stored": "grpo",
        "a verifier, no demonstrations, earlier data stored": "grpo + replay",
    }
    sure = best["demonstrations, no verifier, nothing stored"]
    assert sure is not None
    assert sure.share == 1.0
    assert [rival.standing.arm.label for rival in sure.rivals] == ["sft"]
    assert sure.rivals[0].is_worse
    near = best["a verifier, no demonstrations, earlier data stored"]
    assert near is not None
    assert not near.rivals[0].is_worse


def test_a_choice_is_scored_in_worlds_that_did_not_choose() -> None:
    """Where two arms take turns, whichever is best elsewhere is the worse one here."""
    assert held_out(np.array([[10.0, 0.0], [0.0, 10.0]])) == 0
    assert held_out(np.array([[7.0, 8.0], [1.0, 2.0]])) == 7.5


def test_the_best_of_equal_arms_is_overrated_where_it_was_chosen() -> None:
    drawn = np.random.default_rng(0).normal(70, 3, (300, 12, 10))
    chosen = np.mean([values.mean(axis=1).max() for values in drawn])
    elsewhere = np.mean([held_out(values) for values in drawn])
    assert chosen > 71.3
    assert elsewhere == pytest.approx(70, abs=0.2)


def test_rewriting_is_no_choice_without_the_verifier_that_it_used() -> None:
    alone = [stand("rewrite-sft", [50, 51], [60, 61])]
    assert situation("demonstrations, no verifier, nothing stored", alone) is None
    assert situation("demonstrations and a verifier, nothing stored", alone) is not None


def record(world: int, tasks: list[str], suites: list[str], lift: float) -> Mapping[str, Any]:
    """A run's record: tasks rise from .2 by `lift`, the suites fall from .9."""
    before = {task: {"score": 0.2} for task in tasks} | {suite: {"score": 0.9, "nll": 1.0} for suite in suites}
    after = {task: {"score": 0.2 + lift + world / 100} for task in tasks}
    after |= {suite: {"score": 0.9 - lift / 2 - world / 200, "nll": 1.25} for suite in suites}
    spent = {"generated_tokens": 10, "trained_tokens": 20}
    return {
        "tasks": tasks,
        "suites": suites,
        "stages": [{"sets": before}, *({"sets": after} for _ in tasks)],
        "spent": spent,
    }


@pytest.fixture
def measured(tmp_path: Path) -> MeasuredFront:
    arms: list[FrontArm] = [ARMS[label] for label in ("sft", "sdft", "sdft + replay", "grpo")]
    rates = dict.fromkeys((arm.label for arm in arms), 2e-4)
    store = RecordStore(tmp_path)
    for place, arm in enumerate(arms):
        for order in ORDERS:
            for world in WORLDS:
                run = ArmRun(arm.in_order(order, 2e-4), world, 2e-4, True)
                store.write(run.name, record(world, list(order.tasks), list(order.suites), place / 10))
    return read_front(arms, rates, store, WORLDS, ("a",))


def test_numbers_are_read_from_runs(measured: MeasuredFront) -> None:
    assert (measured.base.final, measured.base.kept, measured.base.overall) == pytest.approx((20.0, 90.0, 55.0))
    sdft = measured.standings[1]
    assert sdft.worlds("final") == pytest.approx([30, 31, 32, 33])
    assert sdft.worlds("kept") == pytest.approx([85, 84.5, 84, 83.5])
    assert sdft.mean("nll") == pytest.approx(0.25)
    assert set(measured.front.on_front) == {"sft", "sdft", "sdft + replay", "grpo"}


def test_the_page_has_all_arms_and_the_origin(measured: MeasuredFront) -> None:
    made = {"command": "holdfast front --worlds 4", "date": "2026-01-01", "runs": 1, "commits": ["abc"], "hours": 1.0}
    page = as_page(measured, made, "front.svg")
    assert "![Old skills against tasks at the end, with the front and its band](front.svg)" in page
    assert all(len(line) <= 120 or line.startswith("|") for line in page.splitlines())
    for row in table_rows(measured):
        assert f"| {row[0]} |" in page
    assert "`grpo`" in page
    data = as_json(measured, made)
    assert [arm["label"] for arm in data["arms"]] == ["sft", "sdft", "sdft + replay", "grpo"]


def test_the_figure_shows_replay_by_filled_marks(measured: MeasuredFront) -> None:
    figure = front_figure(measured)
    marks = {trace["name"]: trace["marker"]["symbol"] for trace in figure.spec["data"] if "marker" in trace}
    assert marks["sdft"] == f"{marks['sdft + replay']}-open"
    assert len(figure.rows) == 5


def test_a_figure_without_a_page_is_refused(command: Commands) -> None:
    refused = command("front", "--figures")
    assert refused.code == 2
    assert "--page" in refused.err
