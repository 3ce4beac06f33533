"""`holdfast.lab.tasks`: tasks and suites by name, in the world of a seed."""

import pytest

from holdfast.data.example import Example
from holdfast.data.task import Suite, Task
from holdfast.errors import ConfigError
from holdfast.lab import plain
from holdfast.lab.tasks import ALL_SUITES, ALL_TASKS, RETENTION, TASKS, default_suites, lab_suite, lab_task
from holdfast.measure.statistics import largest_margin
from holdfast.tasks.load import data_hash


def _prompts(examples: list[Example]) -> set[tuple[tuple[str, str], ...]]:
    return {tuple((m["role"], m["content"]) for m in each.messages) for each in examples}


@pytest.mark.parametrize("name", ALL_TASKS)
def test_a_task_is_the_same_for_a_seed_and_another_for_another(name: str) -> None:
    task = lab_task(name, 1)
    before = data_hash(task)
    lab_task.cache_clear()
    assert data_hash(lab_task(name, 1)) == before
    assert data_hash(lab_task(name, 2)) != before
    assert not _prompts(list(task.train)) & _prompts(list(task.test))


@pytest.mark.parametrize("name", ALL_SUITES)
def test_a_suite_is_the_same_for_a_seed_and_another_for_another(name: str) -> None:
    suite = lab_suite(name, 1)
    before = data_hash(suite)
    lab_suite.cache_clear()
    assert data_hash(lab_suite(name, 1)) == before
    assert data_hash(lab_suite(name, 2)) != before
    assert suite.kind == ("ood" if name.endswith("-ood") else "retention")


def test_sets_are_large_enough_for_intervals_of_four_points() -> None:
    for each in (*map(lab_task, TASKS), *map(lab_suite, RETENTION)):
        assert largest_margin(len(each.test)) < 0.04


def test_every_set_is_described_and_no_two_share_a_name() -> None:
    sets: list[Task | Suite] = [*map(lab_task, ALL_TASKS), *map(lab_suite, ALL_SUITES)]
    assert all(each.description for each in sets)
    assert len({each.name for each in sets}) == len(sets)


def test_a_stream_gets_the_old_skills_and_what_lies_beside_its_tasks() -> None:
    assert default_suites(["facts", "tools"]) == [*RETENTION, "facts-ood", "tools-ood"]
    assert default_suites(["steps", "steps-hard"]) == [
        *RETENTION,
        *("known-steps", "planned-steps", "steps-ood", "steps-hard-ood"),
    ]
    assert set(default_suites(ALL_TASKS)) == set(ALL_SUITES)
    assert set(plain.BESIDE) == set(plain.TASKS)


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no task 'maths'.*calculation.*quests"):
        lab_task("maths")
    with pytest.raises(ConfigError, match=r"no suite 'old'.*old-skills.*any-song"):
        lab_suite("old")
