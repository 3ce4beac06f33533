"""`holdfast.tasks.code.reader`: records in the columns of MBPP and LiveCodeBench."""

import base64
import json
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig, TaskSettings
from holdfast.data.example import Example
from holdfast.errors import ConfigError, DataError
from holdfast.tasks.code.tests import ProgramTests
from holdfast.tasks.load import _loaded, load_task
from sandboxes import require_sandbox

MBPP = {
    "task_id": 11,
    "text": "Write a function that squares a number.",
    "code": "def square(x):\n    return x * x",
    "test_list": ["assert square(3) == 9", "assert square(0) == 0"],
    "test_setup_code": "",
    "challenge_test_list": ["assert square(-2) == 4"],
}
CASES = [{"input": "1\n", "output": "2\n", "testtype": "stdin"}]
PRIVATE = [{"input": "5\n", "output": "10\n", "testtype": "stdin"}]
CONTEST = {
    "question_id": "a1",
    "question_content": "Read a number and print its double.",
    "starter_code": "",
    "public_test_cases": json.dumps(CASES),
    "private_test_cases": json.dumps(PRIVATE),
    "metadata": "{}",
}
FUNCTIONAL = {
    "question_id": "a2",
    "question_content": "Return the double of x.",
    "starter_code": "class Solution:\n    def double(self, x: int) -> int:\n        ",
    "public_test_cases": json.dumps([{"input": "3", "output": "6", "testtype": "functional"}]),
    "metadata": json.dumps({"func_name": "double"}),
}


def packed(value: Any) -> str:
    """As LiveCodeBench packs its private tests."""
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def load(tmp_path: Path, *records: dict[str, Any], **settings: Any) -> list[Example]:
    path = tmp_path / "code.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    settings = {"code": {}} | settings
    task = TaskSettings.model_validate({"name": "code", "train": str(path), **settings})
    assert task.train is not None
    return _loaded(task, task.train, "train").examples


def test_mbpp(tmp_path: Path) -> None:
    (example,) = load(tmp_path, MBPP)
    assert example.id == "11"
    assert example.demonstration == "```python\ndef square(x):\n    return x * x\n```"
    prompt = example.messages[-1]["content"]
    assert prompt.startswith("Write a function that squares a number.")
    assert "assert square(3) == 9\nassert square(0) == 0" in prompt
    assert "square(-2)" not in prompt
    tests = ProgramTests.of(example.answer).tests
    assert [(test.code, test.is_hidden) for test in tests] == [
        ("assert square(3) == 9", False),
        ("assert square(0) == 0", False),
        ("assert square(-2) == 4", True),
    ]


def test_only_the_first_tests_are_shown(tmp_path: Path) -> None:
    (example,) = load(tmp_path, MBPP, code={"public_tests": 1})
    assert "square(0)" not in example.messages[-1]["content"]
    assert [test.is_hidden for test in ProgramTests.of(example.answer).tests] == [False, True, True]


def test_livecodebench(tmp_path: Path) -> None:
    first, second = load(tmp_path, CONTEST, FUNCTIONAL)
    tests = ProgramTests.of(first.answer)
    assert [(t.kind, t.input, t.output, t.is_hidden) for t in tests.tests] == [
        ("stdio", "1\n", "2\n", False),
        ("stdio", "5\n", "10\n", True),
    ]
    assert tests.has_prelude
    assert "standard input" in first.messages[-1]["content"]
    assert "10" not in first.messages[-1]["content"]
    assert ProgramTests.of(second.answer).function == "double"
    assert "def double(self, x: int)" in second.messages[-1]["content"]


def test_packed_tests_are_read_and_run_nothing(tmp_path: Path) -> None:
    (example,) = load(tmp_path, CONTEST | {"private_test_cases": packed(json.dumps(PRIVATE))})
    assert ProgramTests.of(example.answer).tests[1].output == "10\n"

    class Touch:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    with pytest.raises(DataError, match="neither JSON nor packed JSON"):
        load(tmp_path, CONTEST | {"private_test_cases": packed(Touch())})
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": "x"}, "it has no tests"),
        ({"test_list": ["assert 1"]}, "it asks for nothing"),
        ({"text": "x", "test_list": "assert ("}, "a test cannot be run: SyntaxError"),
        ({"text": "x", "test_list": [1]}, "`test_list` is not a list of text"),
        ({"text": "x", "public_test_cases": "[{}]"}, "no `input` and `output`"),
        ({"text": "x", "public_test_cases": "{}"}, "not a list of test cases"),
        ({"text": "x", "public_test_cases": "[1"}, "`public_test_cases`: is not valid JSON"),
        ({"text": "x", "public_test_cases": "W1xd"}, "neither JSON nor packed JSON"),
        ({"text": "x", "public_test_cases": '[{"input": "", "input": ""}]'}, "has the key 'input' twice"),
        (
            {"text": "x", "public_test_cases": [{"input": "", "output": "", "testtype": "functionall"}]},
            r"the `testtype` 'functionall' \(write one of: stdin, functional",
        ),
        (
            {"text": "x", "public_test_cases": [{"input": "", "output": "", "testtype": ["stdin"]}]},
            "the `testtype` a list",
        ),
        (FUNCTIONAL | {"metadata": "{}"}, "name no function"),
        (FUNCTIONAL | {"metadata": '{"func_name": "os.system"}'}, "name no function"),
        (
            FUNCTIONAL | {"public_test_cases": '[{"input": "x", "output": "1", "testtype": "functional"}]'},
            "a functional test: is not valid JSON",
        ),
        (
            FUNCTIONAL | {"public_test_cases": '[{"input": "1", "output": "NaN", "testtype": "functional"}]'},
            "a functional test: cannot be read as JSON: NaN",
        ),
    ],
)
def test_mistakes_name_what_is_wrong(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path, record, MBPP)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reader": "records", "code": {}}, "`code` means `reader: code`"),
        ({"run_code": "unprotected"}, "nothing here runs code"),
        ({"code": {}, "sandbox": {"kind": "sandbox-fusion"}}, "give both or neither"),
        ({"code": {}, "sandbox": {"kind": "sandbox-fusion", "url": "localhost"}}, "write http://HOST:PORT"),
        ({"code": {}, "sandbox": {"kind": "dockr"}}, "docker"),
        ({"code": {"time_limit": 0}}, "time_limit"),
        ({"code": {"memory_mb": 1}}, "memory_mb"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"tasks": [{"name": "t", "train": "a.jsonl", **changes}], "recipe": "sft"}, RunConfig)


def test_columns_are_refused_that_it_does_not_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`columns`, which `reader: code` does not read"):
        load(tmp_path, MBPP, columns={"prompt": "text"})


def test_a_task_of_programs(tmp_path: Path) -> None:
    require_sandbox()
    path = tmp_path / "code.jsonl"
    path.write_text(json.dumps(MBPP) + "\n" + json.dumps(CONTEST) + "\n")
    task = load_task(TaskSettings.model_validate({"name": "t", "train": str(path), "reader": "code"}))
    assert task.judged_by == "the tests of its programs"
    square, double = sorted([*task.train, *task.test], key=lambda each: each.id)
    assert task.verify(square, f"So:\n{square.demonstration}").reward == 1.0
    assert task.verify(square, "def square(x): return x * x").format_ok is False
    wrong = task.verify(square, "```python\ndef square(x):\n    return 3 * x\n```")
    assert (wrong.reward, wrong.feedback) == (0.0, "It fails a hidden test: wrong answer.")
    assert task.verify(double, "```\nprint(2 * int(input()))\n```").reward == 1.0
