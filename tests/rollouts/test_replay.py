"""`holdfast.rollouts.sources.replay`: which earlier prompts a batch replays, and what completes them."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holdfast.advise.cost import cost_of
from holdfast.config.settings import ModelSettings, TrainSettings
from holdfast.data.batch_metrics import rollout_numbers
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.task import Task
from holdfast.errors import ConfigError
from holdfast.lab.tasks import lab_task
from holdfast.model.base import Base
from holdfast.model.load import load_policy
from holdfast.model.logprobs import completion_logprobs
from holdfast.recipes import OPR, RAD, RFT, RaPO, Replay, StableOPD
from holdfast.recipes.base.recipe import Recipe
from holdfast.rollouts.collect import Collector
from holdfast.rollouts.prompt_pool import PromptPool
from holdfast.rollouts.training_prompts import TrainingPrompt
from holdfast.sampling.sampler import Sampler
from holdfast.tasks.load import PROMPT_WORLD
from holdfast.train.teacher import Teacher


def collector(
    folder: Path, seed: int = 0, kind: type[Recipe] = Replay, **settings: Any
) -> tuple[Collector, list[Task]]:
    policy = load_policy(ModelSettings(path=str(folder)))
    base = Base(policy)
    tasks = []
    for name in ("a", "b", "c"):
        examples = [Example(f"{name}{i}", (Message(role="user", content=f"{i}"),), f"{i}") for i in range(8)]
        # The feedback names the task that judged a sample.
        verdict = Verdict(0.5, feedback=name)
        tasks.append(Task(name, examples, examples, lambda _example, _completion, verdict=verdict: verdict))
    train = TrainSettings(prompts_per_step=4, max_completion_length=8)
    made = Collector(policy, Sampler(policy), kind(**settings), train, seed, base)
    for task in tasks:
        made.prepare(task)
    made.prepare_prompts()
    return made, tasks


def replayed(made: Collector, tasks: list[Task], stage: int, batches: int) -> list[list[str]]:
    ids = []
    for batch in range(batches):
        groups, _ = made.collect(tasks[stage - 1], stage, batch)
        assert [group.rows[0].replayed for group in groups[:4]] == [False] * 4
        assert all(group.rows[0].ce == 1 for group in groups)
        ids.append([group.example.id for group in groups if group.rows[0].replayed])
    return ids


def test_only_earlier_tasks_are_replayed_and_at_the_ratio(tiny_model: Path) -> None:
    made, tasks = collector(tiny_model, replay_ratio=0.3)
    assert replayed(made, tasks, 1, 3) == [[]] * 3
    second, third = replayed(made, tasks, 2, 10), replayed(made, tasks, 3, 20)
    assert sum(map(len, second)) == 12, "0.3 of 40 prompts"
    assert {name[0] for ids in second for name in ids} == {"a"}
    drawn = [name for ids in third for name in ids]
    assert sorted(drawn[:16]) == sorted(f"{task}{i}" for task in "ab" for i in range(8)), "each once before any twice"


def test_buffer_size_limits_the_prompts_of_each_task(tiny_model: Path) -> None:
    made, tasks = collector(tiny_model, replay_ratio=1.0, buffer_size=2)
    drawn = {name for ids in replayed(made, tasks, 3, 5) for name in ids}
    assert sorted(name[0] for name in drawn) == ["a", "a", "b", "b"]


@given(
    ratio=st.one_of(st.decimals(0, 4, places=3).map(float), st.floats(0, 4)),
    per_batch=st.integers(1, 40),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    buffer_size=st.none() | st.integers(1, 8),
    batches=st.integers(1, 12),
)
def test_batches_replay_exactly_the_ratio_of_their_prompts(
    ratio: float, per_batch: int, sizes: list[int], buffer_size: int | None, batches: int
) -> None:
    """Whatever the ratio: its share in decimal, evenly spread, and each prompt once before any twice."""
    pool = PromptPool(0, per_batch)
    for number, size in enumerate(sizes):
        # Ids are those of each task only.
        examples = [Example(f"{i}", (Message(role="user", content="?"),)) for i in range(size)]
        pool.add(Task(f"{number}", examples, []), [TrainingPrompt(example, [1]) for example in examples])
    stage = len(sizes)
    drawn = [pool.replayed(stage, batch, ratio, buffer_size) for batch in range(batches)]
    kept = sum(size if buffer_size is None else min(size, buffer_size) for size in sizes[:-1])
    exact = Decimal(str(ratio)) * per_batch
    for batch, prompts in enumerate(drawn):
        before = sum(map(len, drawn[:batch]))
        assert before == (math.floor(exact * batch) if kept else 0)
        assert len(prompts) in ((math.floor(exact), math.ceil(exact)) if kept else (0,))
    each = [(task.name, prompt.example.id) for prompts in drawn for task, prompt in prompts]
    assert {int(task) for task, _ in each} <= set(range(stage - 1))
    assert set(Counter(Counter(each).values())) <= {len(each) // max(1, kept), len(each) // max(1, kept) + 1}


def test_the_share_of_a_decimal_ratio_is_not_lost_to_rounding() -> None:
    assert 0.29 * 100 < 29
    pool = PromptPool(0, 100)
    assert [pool.num_replayed(batches, 0.29) for batches in (1, 2, 100)] == [29, 58, 2900]


def test_replayed_prompts_follow_from_the_seed_and_not_from_earlier_batches(tiny_model: Path) -> None:
    made, tasks = collector(tiny_model, replay_ratio=0.5)
    later = [group.example.id for group in made.collect(tasks[2], 3, 4)[0]]
    again, same = collector(tiny_model, replay_ratio=0.5)
    replayed(again, same, 2, 2)
    assert [group.example.id for group in again.collect(same[2], 3, 4)[0]] == later
    other, _ = collector(tiny_model, seed=1, replay_ratio=0.5)
    assert [group.example.id for group in other.collect(tasks[2], 3, 4)[0]] != later


def test_a_share_of_drawn_prompts_gets_a_demonstration(tiny_model: Path) -> None:
    made, tasks = collector(tiny_model, kind=StableOPD, demonstration_share=0.3)
    has_demonstration = [
        [len(group.rows) == 2 and not group.rows[1].is_sampled for group in made.collect(tasks[0], 1, batch)[0]]
        for batch in range(5)
    ]
    assert sum(map(sum, has_demonstration)) == 6, "0.3 of 20 prompts"
    assert all(sum(batch) in (1, 2) for batch in has_demonstration)


SAMPLED: Mapping[str, Any] = {"replay_ratio": 0.5, "num_generations": 2}
"""Samples for each prompt of the stage and of earlier tasks."""


def test_the_cost_counts_what_is_sampled_for_replayed_prompts(tiny_model: Path) -> None:
    made, tasks = collector(tiny_model, kind=RFT, **SAMPLED)
    for stage, is_first in ((1, True), (2, False), (3, False)):
        groups, _ = made.collect(tasks[stage - 1], stage, 0)
        sampled = sum(row.is_sampled for group in groups for row in group.rows)
        assert sampled == 4 * cost_of(RFT(**SAMPLED), is_first=is_first).step.completions


def test_replayed_prompts_are_sampled_and_judged_by_their_own_task(tiny_model: Path) -> None:
    made, tasks = collector(tiny_model, kind=RFT, **SAMPLED)
    groups, _ = made.collect(tasks[2], 3, 1)
    assert [group.example.id[0] for group in groups[:4]] == ["c"] * 4
    assert len(groups) == 6, "0.5 of 4 prompts"
    for place, group in enumerate(groups):
        assert [row.replayed for row in group.rows] == [place >= 4] * 2
        for row in group.rows:
            assert row.is_sampled
            assert row.verdict is not None
            assert row.verdict.feedback == row.example.id[0]
    earlier = [group.example.id for group in groups[4:]]
    assert {name[0] for name in earlier} <= {"a", "b"}
    demonstrated, same = collector(tiny_model, replay_ratio=0.5)
    assert replayed(demonstrated, same, 3, 2)[1] == earlier, "the same prompts with and without sampling"


def test_the_reward_of_a_batch_is_that_of_the_stages_own_task(tiny_model: Path) -> None:
    made, tasks = collector(tiny_model, kind=RFT, **SAMPLED)
    groups, _ = made.collect(tasks[1], 2, 1)
    for row in (row for group in groups for row in group.rows if row.replayed):
        row.verdict = Verdict(1.0)
    assert rollout_numbers(groups)["reward"] == 0.5


# --- Self-replay --------------------------------------------------------------------------------------------------


def test_self_replay_is_the_bases_completion_of_earlier_prompts(tiny_model: Path) -> None:
    made, tasks = collector(tiny_model, replay_ratio=1.0, replay_source="base")
    assert len(made.collect(tasks[0], 1, 0)[0]) == 4, "nothing comes before the first stage"
    groups, numbers = made.collect(tasks[2], 3, 0)
    rows = [group.rows[0] for group in groups[4:]]
    assert numbers == {"replayed_fraction": 0.5}
    assert all(row.replayed and row.is_sampled and row.ce == 1 and row.verdict is None for row in rows)
    assert {row.example.id[0] for row in rows} <= {"a", "b"}
    assert rollout_numbers(groups)["completions"] == 4
    own = [len(group.rows[0].completion_ids) for group in groups[:4]]
    assert rollout_numbers(groups)["completion_length"] == sum(own) / 4, "replayed completions do not count"
    with torch.no_grad():
        for parameter in made.policy.named_trainable().values():
            parameter.mul_(0.5)
    moved = [group.rows[0] for group in made.collect(tasks[2], 3, 0)[0][4:]]
    assert [row.completion_ids for row in moved] == [row.completion_ids for row in rows], "the base, not the student"
    later = [group.rows[0].completion_ids for group in made.collect(tasks[2], 3, 1)[0][4:]]
    assert later != [row.completion_ids for row in rows]


def test_a_file_of_prompts_is_replayed_from_the_first_stage(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "generic.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Tell me about {i}.", "id": f"g{i}"}) + "\n" for i in range(3)))
    made, tasks = collector(tiny_model, replay_ratio=0.5, replay_source="base", prompts=str(file))
    for stage in (1, 3):
        drawn = {group.example.id for batch in range(3) for group in made.collect(tasks[0], stage, batch)[0][4:]}
        assert drawn == {"g0", "g1", "g2"}
    with pytest.raises(ValueError, match="set replay_source: base"):
        Replay(prompts=str(file))


def test_a_task_of_the_lab_is_a_source_of_prompts(tiny_model: Path) -> None:
    made, _ = collector(tiny_model, kind=RAD, prompts="lab:calculation")
    assert [prompt.example for _, prompt in made.pool.file_prompts] == lab_task("calculation", PROMPT_WORLD).train
    with pytest.raises(ConfigError, match="the lab has no task 'x'"):
        collector(tiny_model, kind=RAD, prompts="lab:x")


def test_a_text_is_continued_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text(json.dumps({"rendered_prompt": "The sea", "id": "t"}) + "\n")
    made, tasks = collector(tiny_model, kind=RAD, prompts=str(file))
    groups, numbers = made.collect(tasks[0], 1, 0)
    assert numbers == {"text_fraction": 0.5, "replayed_fraction": 0.5}
    text = groups[-1].rows[0]
    assert made.policy.tokenizer.decode(text.prompt_ids) == "The sea"
    assert (text.ce, text.verdict) == (0.0, None)
    assert text.base_kl > 0


# --- The teacher writes or scores ---------------------------------------------------------------------------------


def with_teacher(folder: Path, recipe: Recipe) -> tuple[Collector, list[Task], Teacher]:
    """A collector whose student has moved away from its teacher, the model at the stage's start."""
    made, tasks = collector(folder, kind=type(recipe), **recipe.model_dump(exclude_defaults=True))
    teacher = Teacher(recipe.teacher(), made.policy, None)
    teacher.start_stage()
    again = Collector(made.policy, Sampler(made.policy), recipe, made.train, 0, None, teacher)
    for task in tasks:
        again.prepare(task)
    with torch.no_grad():
        for parameter in made.policy.named_trainable().values():
            parameter.mul_(0.7)
    return again, tasks, teacher


def test_on_policy_replay_is_by_the_model_at_the_stages_start_and_judged(tiny_model: Path) -> None:
    made, tasks, teacher = with_teacher(tiny_model, OPR(replay_ratio=0.5, replay_attempts=3, success_threshold=0.5))
    assert len(made.collect(tasks[0], 1, 0)[0]) == 4, "nothing comes before the first stage"
    groups, numbers = made.collect(tasks[2], 3, 0)
    rows = [row for group in groups[4:] for row in group.rows]
    assert len(groups[4:]) == 2
    assert len(rows) == 6
    assert (numbers["replayed_fraction"], numbers["replay_success_fraction"]) == (2 / 6, 1.0)
    assert [row.ce for row in rows] == [1.0, 0.0, 0.0] * 2
    assert all(row.verdict is not None and row.verdict.feedback == row.example.id[0] for row in rows)
    assert rollout_numbers(groups)["completions"] == 6
    assert rollout_numbers(groups)["reward"] is None, "no sample is of the stage's own task"
    with teacher.scoring() as before:
        scored = completion_logprobs(before, rows)
    for row, logprobs in zip(rows, scored, strict=True):
        assert row.sampled_logprobs == pytest.approx(logprobs, abs=1e-4)
    assert cost_of(OPR()).step.completions == pytest.approx(0.4)


def test_a_teacher_scores_samples_from_its_stage_on(tiny_model: Path) -> None:
    made, tasks, teacher = with_teacher(tiny_model, RaPO(num_generations=2))
    first, _ = made.collect(tasks[0], 1, 0)
    assert all(row.teacher_logprobs is None for group in first for row in group.rows)
    groups, numbers = made.collect(tasks[1], 2, 0)
    rows = [row for group in groups for row in group.rows]
    for row in rows:
        with teacher.scoring() as before:
            logits = before.model(torch.tensor([row.prompt_ids + row.completion_ids])).logits[0]
        expected = logits.log_softmax(-1)[len(row.prompt_ids) - 1 : -1]
        own = expected[range(len(row.completion_ids)), row.completion_ids]
        assert row.teacher_logprobs == pytest.approx(own.tolist(), abs=1e-4)
    gaps = [sum(row.sampled_logprobs) - sum(row.teacher_logprobs) for row in rows]  # type: ignore[arg-type]
    drifts = [max(0.0, gap / len(row.completion_ids)) for gap, row in zip(gaps, rows, strict=True)]
    assert numbers["drift"] == pytest.approx(sum(drifts) / len(drifts), abs=1e-6)
    assert numbers["drift"] > 0


def test_self_replay_is_not_judged(tiny_model: Path) -> None:
    made, tasks = collector(tiny_model, replay_ratio=1.0, replay_source="base")
    judged = Task("d", tasks[0].train, tasks[0].train, lambda example, text: Verdict(1.0))
    made.prepare(judged)
    groups, _ = made.collect(tasks[2], 5, 0)
    assert all(group.rows[0].verdict is None for group in groups)
