"""`holdfast.stream.check.sets`: who judges a set, what nothing reads, and test items that stand in training data."""

import json
from dataclasses import replace
from typing import Any

import pytest

from holdfast import api
from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig
from holdfast.data.example import Example, Message
from holdfast.data.task import Suite, Task
from holdfast.lab.tasks import lab_task
from holdfast.stream.check.sets import leaks, shared_sources
from small_runs import write_config

LONG = "a farmer has nine red hens and sells four of them to his neighbor on a cold friday morning so"


def _examples(*prompts: str, name: str = "e") -> list[Example]:
    return [Example(f"{name}{i}", (Message(role="user", content=p),)) for i, p in enumerate(prompts)]


def _judge(example: Example, completion: str) -> float:
    return 0.0


def test_a_suite_that_is_a_tasks_training_file_is_named() -> None:
    prompts = [f"question {i}" for i in range(10)]
    task = Task("own", _examples(*prompts[1:]), _examples(prompts[0], name="t"))
    suite = Suite("old", "retention", _examples(*prompts, name="s"), _judge)  # type: ignore[arg-type]
    (found,) = leaks([task], [suite])
    assert (found["set"], found["task"], found["items"], found["exact"]) == ("old", "own", 10, 9)
    assert found["sentence"].startswith("old is the training data of own itself: 9 of its 10 prompts are trained on")
    assert found["first"][0] == ["s1", "e0"]


def test_some_items_in_training_data_are_counted_and_the_first_is_named() -> None:
    train = _examples(LONG, *[f"question {i}" for i in range(30)])
    tests = _examples("new", "question 4", f"once {LONG} says who", "newer", "newest", name="t")
    (found,) = leaks([Task("own", train, tests)], [])
    assert (found["exact"], found["similar"]) == (1, 1)
    assert found["sentence"] == (
        "own: 1 of 5 prompts stand in the training data of own, and 1 of 5 prompts share 13 words in a row with the "
        "training data of own (the first: t1 is like e5)"
    )


def test_every_set_is_compared_with_every_stage() -> None:
    one, two = (Task(n, _examples(f"{n} {LONG}", name=n), _examples(f"q {n}", name="t")) for n in ("one", "two"))
    crossed = replace(one, test=_examples(f"two {LONG}", name="x"))
    assert [(each["set"], each["task"]) for each in leaks([crossed, two], [])] == [("one", "one"), ("one", "two")]
    assert leaks([lab_task("facts"), lab_task("calculation")], []) == []


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("judged")
    path = write_config(folder, "grpo", recipe="sft", train={"max_completion_length": 60})
    records = [{"prompt": f"say {i}", "completion": f"{i}"} for i in range(12)]
    for name, changes in (("free", {}), ("answers", {"answer": "1"})):
        lines = [json.dumps(record | changes) for record in records]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    tasks: list[dict[str, Any]] = [
        {"name": "own", "train": str(folder / "0.jsonl"), "verifier": "judges:never"},
        {"name": "free", "train": str(folder / "free.jsonl")},
        {"name": "exact", "train": str(folder / "answers.jsonl")},
        {"name": "talk", "train": str(folder / "0.jsonl"), "environment_factory": "judges:Talkative", "max_turns": 2},
    ]
    suites = [
        {"name": "kept", "test": str(folder / "answers.jsonl")},
        {"name": "facts", "lab": "facts-ood", "limit": 3},
        {"name": "held", "test": str(folder / "1.jsonl"), "verifier": "judges:always", "kind": "ood"},
    ]
    return dict(api.check(path, items=2, tasks=tasks, suites=suites))


def test_it_says_how_each_set_is_judged(judged: dict[str, Any]) -> None:
    by = {each["name"]: each["judged_by"] for each in (*judged["tasks"], *judged["suites"])}
    assert by == {
        "own": "the verifier judges:never",
        "free": "nothing; scored by the negative log-likelihood of the demonstrations",
        "exact": "exact match with `answer`",
        "talk": "the environment judges:Talkative",
        "kept": "exact match with `answer`",
        "facts": "the lab",
        "held": "the verifier judges:always",
    }


def test_a_suite_that_is_trained_on_is_a_warning(judged: dict[str, Any]) -> None:
    lines = [each for each in judged["warnings"] if each.startswith("kept is the training data of")]
    assert len(lines) == 2  # `free` and `exact` have the same prompts


def test_a_set_that_is_read_from_a_training_file_is_told_whatever_its_prompts_are() -> None:
    tasks: list[Any] = [
        {"name": "one", "train": "a.jsonl"},
        {"name": "two", "dataset": "b", "train": "train", "test": "validation"},
    ]
    suites = [
        {"name": "same", "test": "a.jsonl", "columns": {"prompt": "other"}},
        {"name": "split", "dataset": "b", "test": "train"},
        {"name": "no", "dataset": "c", "test": "train"},
        {"name": "lab", "lab": "facts-ood"},
    ]
    config = parse_config({"tasks": tasks, "suites": suites, "recipe": "sft"}, RunConfig)
    assert shared_sources(config) == [("same", "one"), ("split", "two")]
