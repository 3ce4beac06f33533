"""Replay: which rows of earlier tasks a batch has, and that they follow from names alone."""

from dataclasses import replace
from pathlib import Path

from holdfast.config import ModelSettings, TrainSettings
from holdfast.methods import RFT, Replay, StableOPD
from holdfast.methods.base import Recipe
from holdfast.objective.spec import RolloutSpec
from holdfast.rollouts.collect import Collector
from holdfast.rollouts.numbers import rollout_numbers
from holdfast.rollouts.sampler import Sampler
from holdfast.tasks.base import Example, Message, Task, Verdict
from holdfast.train.model import load_policy


def collector(
    folder: Path, seed: int = 0, kind: type[Recipe] = Replay, **settings: float
) -> tuple[Collector, list[Task]]:
    policy = load_policy(ModelSettings(path=str(folder)))
    tasks = []
    for name in ("a", "b", "c"):
        examples = [Example(f"{name}{i}", (Message(role="user", content=f"{i}"),), f"{i}") for i in range(8)]
        # What a sample is worth says which task has judged it.
        worth = Verdict(0.5, feedback=name)
        tasks.append(Task(name, examples, examples, lambda _example, _completion, worth=worth: worth))
    train = TrainSettings(prompts_per_step=4, max_completion_length=8)
    made = Collector(policy, Sampler(policy), kind(**settings), train, seed)
    for task in tasks:
        made.prepare(task)
    return made, tasks


def replayed(made: Collector, tasks: list[Task], stage: int, batches: int) -> list[list[str]]:
    found = []
    for batch in range(batches):
        groups, _ = made.collect(tasks[stage - 1], stage, batch)
        assert [group.rows[0].replayed for group in groups[:4]] == [False] * 4
        assert all(group.rows[0].ce == 1 for group in groups)
        found.append([group.example.id for group in groups if group.rows[0].replayed])
    return found


def test_earlier_tasks_alone_are_replayed_at_the_ratio(tiny_model: Path) -> None:
    made, tasks = collector(tiny_model, replay_ratio=0.3)
    assert replayed(made, tasks, 1, 3) == [[]] * 3
    second, third = replayed(made, tasks, 2, 10), replayed(made, tasks, 3, 20)
    assert sum(map(len, second)) == 12, "0.3 of 40 prompts"
    assert {name[0] for ids in second for name in ids} == {"a"}
    drawn = [name for ids in third for name in ids]
    assert sorted(drawn[:16]) == sorted(f"{task}{i}" for task in "ab" for i in range(8)), "each once before any twice"


def test_a_buffer_holds_so_many_of_each_task(tiny_model: Path) -> None:
    made, tasks = collector(tiny_model, replay_ratio=1.0, buffer_size=2)
    drawn = {name for ids in replayed(made, tasks, 3, 5) for name in ids}
    assert sorted(name[0] for name in drawn) == ["a", "a", "b", "b"]


def test_what_is_replayed_follows_from_the_seed_and_from_nothing_before(tiny_model: Path) -> None:
    made, tasks = collector(tiny_model, replay_ratio=0.5)
    later = [group.example.id for group in made.collect(tasks[2], 3, 4)[0]]
    again, same = collector(tiny_model, replay_ratio=0.5)
    replayed(again, same, 2, 2)
    assert [group.example.id for group in again.collect(same[2], 3, 4)[0]] == later
    other, _ = collector(tiny_model, seed=1, replay_ratio=0.5)
    assert [group.example.id for group in other.collect(tasks[2], 3, 4)[0]] != later


def test_a_share_of_drawn_prompts_brings_its_demonstration(tiny_model: Path) -> None:
    made, tasks = collector(tiny_model, kind=StableOPD, demonstration_share=0.3)
    brought = [
        [len(group.rows) == 2 and not group.rows[1].is_sampled for group in made.collect(tasks[0], 1, batch)[0]]
        for batch in range(5)
    ]
    assert sum(map(sum, brought)) == 6, "0.3 of 20 prompts"
    assert all(sum(batch) in (1, 2) for batch in brought)


class Practising(RFT):
    """Samples anew, one for each prompt of the stage and of earlier tasks."""

    def rollouts(self) -> RolloutSpec:
        return replace(super().rollouts(), replay_ratio=0.5, num_generations=2)


def test_prompts_of_earlier_tasks_are_sampled_anew_and_judged_by_their_own_task(tiny_model: Path) -> None:
    made, tasks = collector(tiny_model, kind=Practising)
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
    assert replayed(demonstrated, same, 3, 2)[1] == earlier, "which prompts does not depend on how they are used"


def test_what_a_batch_is_worth_is_said_of_the_stages_own_task(tiny_model: Path) -> None:
    made, tasks = collector(tiny_model, kind=Practising)
    groups, _ = made.collect(tasks[1], 2, 1)
    for row in (row for group in groups for row in group.rows if row.replayed):
        row.verdict = Verdict(1.0)
    assert rollout_numbers(groups)["reward"] == 0.5
