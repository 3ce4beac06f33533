"""`holdfast.tasks.given`: tasks and suites that are passed in Python, beside those that a configuration names."""

from typing import Any

import pytest

from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.task import Suite, Task
from holdfast.errors import ConfigError
from holdfast.tasks.given import NOTHING_GIVEN, GivenSets
from holdfast.tasks.load import load_stream


def _examples(name: str) -> list[Example]:
    return [Example(f"{name}-{n}", (Message(role="user", content=f"{name} {n}"),), "d") for n in range(2)]


def _task(name: str) -> Task:
    return Task(name, _examples(name), _examples(f"{name} test"), lambda example, completion: Verdict(1.0))


def _suite(name: str) -> Suite:
    return Suite(name, "retention", _examples(name), lambda example, completion: Verdict(1.0))


def _config(data: dict[str, Any], given: GivenSets) -> RunConfig:
    return parse_config(given.entries({"recipe": "sft", "model": {"path": "elsewhere"}, **data}), RunConfig)


def _loaded(data: dict[str, Any], given: GivenSets) -> tuple[list[Task], list[Suite]]:
    return load_stream(_config(data, given), given)


def test_a_configuration_need_not_name_objects_and_they_are_the_very_ones() -> None:
    one, two, old = _task("one"), _task("two"), _suite("old")
    tasks, suites = _loaded({}, GivenSets.of([two, one], [old]))
    assert [id(each) for each in (*tasks, *suites)] == [id(two), id(one), id(old)]


def test_a_configuration_that_names_objects_decides_on_order_and_steps() -> None:
    given = GivenSets.of([_task("one"), _task("two")], None)
    entries = [{"name": "two", "given": True, "steps": 7}, "lab:facts"]
    config = _config({"tasks": entries}, given)
    assert [(task.name, task.steps) for task in config.tasks] == [("two", 7), ("facts", None), ("one", None)]
    assert [task.name for task in load_stream(config, given)[0]] == ["two", "facts", "one"]


def test_a_list_with_entries_replaces_the_configurations() -> None:
    given = GivenSets.of(["lab:tools", _task("one"), {"name": "few", "lab": "facts", "limit": 3}], ["lab:old-facts"])
    data = {"tasks": ["lab:calculation"], "suites": ["lab:old-skills"]}
    tasks, suites = _loaded(data, given)
    assert [task.name for task in tasks] == ["tools", "one", "few"]
    assert len(tasks[2].train) == 3
    assert [suite.name for suite in suites] == ["old-facts"]


def test_an_empty_list_is_no_suites_and_none_leaves_the_configurations() -> None:
    data = {"tasks": ["lab:facts"], "suites": ["lab:old-skills"]}
    assert _loaded(data, GivenSets.of(None, []))[1] == []
    assert [suite.name for suite in _loaded(data, GivenSets.of(None, None))[1]] == ["old-skills"]
    assert GivenSets.of(None, None) == NOTHING_GIVEN
    assert NOTHING_GIVEN.entries(data) == data


def test_names_are_used_once_and_a_task_is_no_suite() -> None:
    with pytest.raises(ConfigError, match="two tasks or suites are named 'one'"):
        GivenSets.of([_task("one"), _task("one")], None)
    with pytest.raises(ConfigError, match="two tasks or suites are named 'one'"):
        GivenSets.of([_task("one")], [_suite("one")])
    with pytest.raises(ConfigError, match=r"suites: 'one' is not a suite .*pass a Suite"):
        GivenSets.of(None, [_task("one")])
    with pytest.raises(ConfigError, match=r"tasks: 'old' is not a task .*pass a Task"):
        GivenSets.of([_suite("old")], None)


def test_an_entry_with_data_of_its_own_does_not_hide_an_object() -> None:
    given = GivenSets.of([_task("facts")], None)
    with pytest.raises(ConfigError, match=r"tasks: 'facts' is passed and has data of its own .*`given: true`"):
        _config({"tasks": [{"name": "facts", "lab": "facts"}]}, given)
    with pytest.raises(ConfigError, match="two tasks or suites are named 'facts'"):
        _loaded({"tasks": ["lab:facts"]}, given)


@pytest.mark.parametrize("key", ["tasks", "suites"])
def test_an_object_that_is_not_passed_is_named_with_what_to_do(key: str) -> None:
    data = {"tasks": ["lab:facts"], key: [{"name": "own", "given": True}]}
    with pytest.raises(ConfigError, match=rf"{key[:-1]} 'own' is an object .*{key}=\[...\], also to holdfast.resume"):
        _loaded(data, NOTHING_GIVEN)
