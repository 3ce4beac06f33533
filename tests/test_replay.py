"""Replay: which rows of earlier tasks a batch has, and that they follow from names alone."""

from pathlib import Path

from holdfast.config import ModelSettings, TrainSettings
from holdfast.methods import Replay, StableOPD
from holdfast.methods.base import Recipe
from holdfast.rollouts.collect import Collector
from holdfast.rollouts.sampler import Sampler
from holdfast.tasks.base import Example, Message, Task
from holdfast.train.model import load_policy


def collector(
    folder: Path, seed: int = 0, kind: type[Recipe] = Replay, **settings: float
) -> tuple[Collector, list[Task]]:
    policy = load_policy(ModelSettings(path=str(folder)))
    tasks = []
    for name in ("a", "b", "c"):
        examples = [Example(f"{name}{i}", (Message(role="user", content=f"{i}"),), f"{i}") for i in range(8)]
        tasks.append(Task(name, examples, examples))
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
