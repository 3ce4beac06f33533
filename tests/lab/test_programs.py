"""`holdfast.lab.programs`: specifications that a world draws, and records of questions about them."""

import contextlib
import io
import json
from typing import Any

import pytest

from holdfast.lab import programs
from holdfast.lab.headers import FREE
from holdfast.lab.tasks import ALL_TASKS, PROGRAMS, TASKS, default_suites
from holdfast.lab.world import world

SEEDS = (0, 1, 7)


def _outcome(program: str, case: dict[str, str]) -> str:
    """What a program of the lab's own gives for the input of a test."""
    names: dict[str, Any] = {"input": lambda: case["input"].rstrip("\n")}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(program, names)
    return json.dumps(names["f"](json.loads(case["input"]))) if "f" in names else printed.getvalue()


def _program(record: dict[str, Any]) -> str:
    first, program, last = record["completion"].splitlines()
    assert (first, last) == ("```python", "```")
    return str(program)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_demonstration_passes_its_tests_and_no_constant_does(seed: int) -> None:
    splits = programs.records(world(seed))
    for record in (*splits["train"], *splits["test"]):
        cases = [*record["public_test_cases"], *record["private_test_cases"]]
        assert len(record["public_test_cases"]) == 1
        assert len({case["input"] for case in cases}) == 1 + programs.HIDDEN_TESTS
        assert len({case["output"] for case in cases}) > 1
        assert [_outcome(_program(record), case) for case in cases] == [case["output"] for case in cases]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_question_names_its_specification_and_shows_the_test_that_is_not_hidden(seed: int) -> None:
    words = {each.program: each.words for each in programs.specifications(world(seed))}
    for record in programs.records(world(seed))["train"]:
        shown = record["public_test_cases"][0]
        value, result = (shown[key].strip().strip('"') for key in ("input", "output"))
        question = record["prompt"][-1]["content"]
        assert f" : {words[_program(record)]} . " in question
        assert question.endswith((f" . {value} -> {result}", f" . f ( {value} ) -> {result}"))
        assert (" . f ( " in question) == _program(record).startswith("f=")


@pytest.mark.parametrize("seed", SEEDS)
def test_splits_have_the_same_specifications_equally_often_and_no_question_in_common(seed: int) -> None:
    splits = programs.records(world(seed))
    assert {split: len(found) for split, found in splits.items()} == {"train": programs.TRAIN, "test": programs.TEST}
    asked = [record["prompt"][-1]["content"] for found in splits.values() for record in found]
    assert len(set(asked)) == len(asked)
    right = {each.program for each in programs.specifications(world(seed))}
    for found in splits.values():
        counts = [sum(_program(record) == program for record in found) for program in right]
        assert sum(counts) == len(found)
        assert max(counts) == min(counts)


@pytest.mark.parametrize("seed", SEEDS)
def test_specifications_are_short_distinct_and_of_both_kinds(seed: int) -> None:
    chosen = programs.specifications(world(seed))
    assert len({each.words for each in chosen}) == len({each.program for each in chosen}) == programs.SPECIFICATIONS
    assert all(10 <= len(each.program) <= 25 for each in chosen)
    assert sum(each.is_function for each in chosen) == programs.SPECIFICATIONS // 2
    assert all(("input()" in each.program) != each.is_function for each in chosen)


def test_worlds_differ_and_each_is_the_same_again() -> None:
    one, two = (programs.records(world(seed)) for seed in (0, 1))
    assert programs.specifications(world(0)) != programs.specifications(world(1))
    assert one != two
    assert programs.records(world(0)) == one


@pytest.mark.parametrize("seed", SEEDS)
def test_its_header_is_no_other_tasks(seed: int) -> None:
    here = world(seed)
    assert programs.header(here) in FREE
    assert programs.header(here) not in here.free_headers.values()


def test_it_is_in_no_default_list() -> None:
    assert PROGRAMS not in (*TASKS, *ALL_TASKS)
    assert default_suites([PROGRAMS]) == default_suites([])
