"""What is known about tasks and suites before training: sizes, who judges them, and what stands in training data."""

from collections.abc import Sequence
from typing import Any

from holdfast.config.settings import StreamSettings
from holdfast.data.task import Suite, Task, all_sets
from holdfast.measure.leaks import TrainingLeak, find_leaks
from holdfast.rollouts.collect import Collector

NOT_JUDGED = "nothing; scored by the negative log-likelihood of the demonstrations"

SAME_DATA = 0.5
"""Share of a set's prompts from which it is taken for the training data itself."""

SHOWN = 3
"""Leaked items that are named."""


def task_facts(task: Task, collector: Collector) -> dict[str, Any]:
    """A task as plain data."""
    return {
        "name": task.name,
        "train": len(task.train),
        "test": len(task.test),
        "dropped": collector.dropped[task.name],
        "dropped_records": task.dropped_records,
        "longest_prompt": collector.pool.longest(task.name),
        "judged_by": task.judged_by or NOT_JUDGED,
        "unread_columns": list(task.unread_columns),
    }


def suite_facts(suite: Suite) -> dict[str, Any]:
    """A suite as plain data."""
    return {
        "name": suite.name,
        "kind": suite.kind,
        "test": len(suite.test),
        "judged_by": suite.judged_by or NOT_JUDGED,
    }


def shared_sources(config: StreamSettings) -> list[tuple[str, str]]:
    """Sets that are read from the training file, or the split, of a task: the set's name and the task's."""
    return [
        (each.name, task.name)
        for task in config.tasks
        for each in (*config.tasks, *(config.suites or ()))
        if task.train is not None and (each.dataset, each.subset, each.test) == (task.dataset, task.subset, task.train)
    ]


def leaks(tasks: Sequence[Task], suites: Sequence[Suite]) -> list[dict[str, Any]]:
    """Sets of test items that stand in the training data of a task, as plain data with a "sentence"."""
    sets = {each.name: each.test for each in all_sets(tasks, suites) if each.test}
    found = []
    for task in tasks:
        for name, leak in find_leaks(sets, task.train).items():
            found.append(_as_json(name, task.name, [item.id for item in sets[name]], leak))
    return found


def _as_json(name: str, task: str, ids: Sequence[str], leak: TrainingLeak) -> dict[str, Any]:
    places = [*leak.exact.items(), *leak.similar.items()][:SHOWN]
    return {
        "set": name,
        "task": task,
        "items": leak.items,
        "exact": len(leak.exact),
        "similar": len(leak.similar),
        "first": [[ids[place], trained] for place, trained in places],
        "sentence": _sentence(name, task, ids, leak),
    }


def _sentence(name: str, task: str, ids: Sequence[str], leak: TrainingLeak) -> str:
    where = f"the training data of {task}"
    place, trained = next(iter([*leak.exact.items(), *leak.similar.items()]))
    first = f"the first: {ids[place]} is like {trained}"
    if len(leak.exact) >= SAME_DATA * leak.items:
        share = f"{len(leak.exact)} of its {leak.items} prompts"
        return f"{name} is {where} itself: {share} are trained on ({first}). Name another file, so that it is a test"
    parts = []
    if leak.exact:
        parts.append(f"{len(leak.exact)} of {leak.items} prompts stand in {where}")
    if leak.similar:
        parts.append(f"{len(leak.similar)} of {leak.items} prompts share 13 words in a row with {where}")
    return f"{name}: {', and '.join(parts)} ({first})"
