"""`holdfast.recipes.base.recipe`: replay as a setting, with every recipe, on two short stages of the lab."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.advise.cost import cost_of
from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig
from holdfast.data.rows import Group
from holdfast.data.task import Task
from holdfast.data.teacher_prompts import privileged_text
from holdfast.errors import ConfigError
from holdfast.lab.tasks import lab_task
from holdfast.recipes import GRPO, RAD, RECIPES, Anchored
from holdfast.recipes.base.needs import require
from holdfast.recipes.base.recipe import Recipe
from holdfast.rollouts.collect import Collector
from holdfast.stream.budget import replay_problems
from small_runs import metrics_records

SHORT: Mapping[str, Mapping[str, Any]] = {
    "atesd": {"probe_prompts": 1},
    "auto_npo": {"patience": 1, "entropy_share": None, "least_gain": 1.0, "every": 1, "guide_samples": 1},
    "ewc": {"num_sequences": 2},
    "npo": {"scout_steps": 1, "guide_samples": 1},
    "rewrite_sft": {"tries": 1},
    "sd_zero": {"srt_steps": 1},
    "sft_then_grpo": {"sft_steps": 1},
}
"""Settings with which two steps are enough to see all of a recipe."""

STREAMS = (
    (("facts", 0), ("tools", 0)),
    (("steps", 0), ("steps-hard", 0)),
    (("refusals", 0), ("refusals", 1)),
    (("quests", 0), ("quests", 1)),
)
"""Pairs of a task and its world. Two worlds of a task have examples of the same ids."""


def stream_for(recipe: type[Recipe]) -> tuple[tuple[str, int], ...]:
    """The first stream with what a recipe needs."""
    return next(pairs for pairs in STREAMS if all(recipe.needs <= lab_task(name).provides() for name, _ in pairs))


def is_of(task: Task, group: Group) -> bool:
    """Whether a group's prompt is one of a task; two tasks may have the same ids, and a demonstration be rewritten."""
    return any((each.id, each.messages) == (group.example.id, group.example.messages) for each in task.train)


class Seen:
    """The batches of a run's second stage, as they were collected: the stage's task and the groups."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.batches: list[list[Group]] = []

    def replayed(self) -> list[Group]:
        return [group for groups in self.batches for group in groups if any(row.replayed for row in group.rows)]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    found, collect = Seen(), Collector.collect

    def spy(self: Collector, task: Task, stage: int, *rest: Any) -> Any:
        made = collect(self, task, stage, *rest)
        found.tasks[task.name] = task
        if stage == 2:
            found.batches.append(made[0])
        return made

    monkeypatch.setattr(Collector, "collect", spy)
    return found


def config_of(pairs: tuple[tuple[str, int], ...], recipe: Mapping[str, Any]) -> dict[str, Any]:
    lora = {"lora": {"r": 2}} if recipe["name"] == "olora" else {}
    return {
        "name": "replay",
        "model": {"path": "lab", **lora},
        "tasks": [
            {"name": f"{name}-{number}", "lab": name, "lab_settings": {"world": world}}
            for number, (name, world) in enumerate(pairs, 1)
        ],
        "suites": [],
        "recipe": recipe,
        "train": {"steps": 2, "prompts_per_step": 2, "learning_rate": 1e-4, "save_steps": 100}
        | {"max_completion_length": 80},
        "eval": {"max_items": 1, "kl_items": 0, "demonstration_items": 0}
        | {"response_items": 0, "drift_weights": 0, "samples": 0},
    }


def settings_of(name: str, **more: Any) -> dict[str, Any]:
    """Short settings of a recipe, with half a replayed prompt for each of its own."""
    several = {"num_generations": 2} if RECIPES[name].model_fields.keys() >= {"num_generations"} else {}
    return {"name": name, **several, **SHORT.get(name, {}), "replay_ratio": 0.5, **more}


def assert_replays(seen: Seen, run: Path) -> None:
    """Half as many prompts of the first task as of the second are trained on, each by the rules of the first task."""
    (first, earlier), (second, own) = sorted(seen.tasks.items())
    assert seen.batches
    for groups in seen.batches:
        assert len(groups) == 3
        of_own, of_earlier = groups[:2], groups[2:]
        assert all(is_of(own, group) for group in of_own)
        assert not any(row.replayed for group in of_own for row in group.rows)
        for group in of_earlier:
            assert group.rows
            assert is_of(earlier, group)
            for row in group.rows:
                assert row.replayed
                assert row.replayed_task == first
                assert row.example is group.example
                if row.verdict is not None and earlier.verifier is not None:
                    assert row.verdict == earlier.verify(row.example, row.completion)
    records = metrics_records(run)
    assert {record["replayed_fraction"] for record in records if record["task"] == first} == {0.0}
    assert {record["task"] for record in records} == {first, second}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_replays_the_earlier_task(name: str, tmp_path: Path, seen: Seen) -> None:
    holdfast.run(config_of(stream_for(RECIPES[name]), settings_of(name)), tmp_path / "run")
    assert_replays(seen, tmp_path / "run")
    fractions = [record["replayed_fraction"] for record in metrics_records(tmp_path / "run")]
    assert max(fractions) > 0 or name in ("opr", "sdpg"), "these leave out prompts of which no sample is right"
    if RECIPES[name]().rollouts().with_demonstration:
        # Of StableOPD's prompts only a share has a demonstration.
        assert name == "stable_opd" or all(not group.rows[-1].is_sampled for group in seen.replayed())


ARMS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("msd", {"sampled_by": "teacher"}),
    ("msd", {"sampled_by": "teacher", "teacher_kind": "live"}),
    ("opsd", {"privilege": "stranger", "sampling_top_k": 5}),
    ("sdpo", {"teacher_kind": "gated", "refresh_every": 1}),
    ("kl_sft", {"old_model": "stage_start"}),
    ("sd_zero", {"phase": 1, "srt_steps": 20}),
    ("replay", {"replay_source": "base", "buffer_size": 1}),
)
"""Settings with which rows come from elsewhere or are shown to others than by default."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings"), ARMS, ids=str)
def test_so_do_arms_of_recipes(name: str, settings: Mapping[str, Any], tmp_path: Path, seen: Seen) -> None:
    holdfast.run(config_of(stream_for(RECIPES[name]), settings_of(name, **settings)), tmp_path / "run")
    assert_replays(seen, tmp_path / "run")
    if "buffer_size" in settings:
        assert len({group.example.id for group in seen.replayed()}) == 1


@pytest.mark.slow
def test_replayed_prompts_that_fail_get_hints_too(tmp_path: Path, seen: Seen) -> None:
    recipe = settings_of("actguide", probes=1, most_probe_steps=0)
    holdfast.run(config_of(STREAMS[-1], recipe), tmp_path / "run")
    for group in seen.replayed():
        fails = all(row.reward == 0 for row in group.rows if row.is_sampled)
        assert [row.source_logprobs is not None for row in group.rows] == [False] * 2 + [True] * (2 if fails else 0)
        assert group.shown_actions == (len(group.example.actions or ()) if fails else 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sft", "sdft", "grpo", "sdpo"])
def test_episodes_are_replayed_in_their_own_environment(name: str, tmp_path: Path, seen: Seen) -> None:
    holdfast.run(config_of(STREAMS[-1], settings_of(name)), tmp_path / "run")
    assert_replays(seen, tmp_path / "run")
    for group in seen.replayed():
        assert all(row.tool_mask is not None for row in group.rows if row.is_sampled)


@pytest.mark.slow
def test_a_task_of_one_turn_is_replayed_beside_episodes(tmp_path: Path, seen: Seen) -> None:
    holdfast.run(config_of((("facts", 0), ("quests", 0)), settings_of("grpo")), tmp_path / "run")
    assert_replays(seen, tmp_path / "run")
    assert all(row.tool_mask is None for group in seen.replayed() for row in group.rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, kind in RECIPES.items() if "num_iterations" in kind.model_fields])
def test_several_steps_on_a_batch_use_its_replayed_rows(name: str, tmp_path: Path, seen: Seen) -> None:
    recipe = settings_of(name, num_iterations=2)
    holdfast.run(config_of(stream_for(RECIPES[name]), recipe), tmp_path / "run")
    assert_replays(seen, tmp_path / "run")
    second = [each for each in metrics_records(tmp_path / "run") if each["stage"] == 2]
    assert [each["replayed_fraction"] for each in second] == [second[0]["replayed_fraction"]] * 2
    assert second[1]["completions"] == 0, "the second step is on the same batch"


@pytest.mark.slow
def test_the_teacher_sees_the_demonstration_of_the_earlier_task(tmp_path: Path, seen: Seen) -> None:
    holdfast.run(config_of(STREAMS[0], settings_of("sdft")), tmp_path / "run")
    for group in seen.replayed():
        for row in group.rows:
            assert row.teacher_messages is not None
            assert privileged_text(group.example) in row.teacher_messages[-1]["content"]


@pytest.mark.parametrize("ratio", [-0.5, float("nan"), float("inf"), "half"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_ratio_that_is_no_number_from_zero_on_is_refused(name: str, ratio: Any) -> None:
    with pytest.raises(ConfigError, match=r"recipe[:.] ?replay_ratio: [^\n]+$"):
        parse_config(config_of(STREAMS[0], {"name": name, "replay_ratio": ratio}), RunConfig)


def test_tasks_that_lack_what_the_recipe_needs_are_refused_as_without_replay() -> None:
    """Every task is the stage's own once, so this holds for what is replayed."""
    tasks = [replace(lab_task("facts"), verifier=None), lab_task("tools")]
    for ratio in (0.0, 0.5):
        with pytest.raises(ConfigError, match="recipe 'grpo' needs a reward, and task 'facts' has no verifier"):
            require(GRPO(replay_ratio=ratio), tasks)


def test_a_ratio_that_was_asked_for_is_warned_of_if_there_is_nothing_to_replay() -> None:
    assert replay_problems(GRPO(replay_ratio=0.5), 1) == [
        "the recipe's replay_ratio is 0.5, but there is only 1 task, so nothing is replayed; leave it out"
    ]
    quiet = (GRPO(), Anchored(), Anchored(replay_ratio=0.0), RAD(replay_ratio=0.5, prompts="lab:facts"))
    assert not [problem for recipe in quiet for problem in replay_problems(recipe, 1)]
    assert replay_problems(GRPO(replay_ratio=0.5), 2) == []


@pytest.mark.parametrize("name", RECIPES)
def test_the_cost_and_the_words_of_a_recipe_know_its_replay(name: str) -> None:
    kind = RECIPES[name]
    plain, more = kind(), kind(replay_ratio=2.0)
    assert cost_of(plain, is_first=True) == cost_of(more, is_first=True)
    assert cost_of(plain).step.total < cost_of(more).step.total
    assert "2 replayed per prompt" in more.wiring()["rollouts"]
