"""The task `programs`: short specifications, each fulfilled by a Python program of one line.

A world draws which specifications are asked, with which numbers and letters, and whether a program is to read its
input or to define a function. Every question shows one test. So a specification has many questions, and a model that
has learned it from some of them answers the others. The base has never written Python.

What is made here are records in the columns of the reader of programs (`reader: code`), because what judges them is
not the lab's: `holdfast.tasks.lab_programs` reads them.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.lab.headers import FREE, Header, system
from holdfast.lab.questions import TRAINED_SURFACES
from holdfast.lab.world import World

TRAIN, TEST = 512, 256
"""Questions of each split. A program has a sandbox of its own, so there are fewer test items than elsewhere."""

SPECIFICATIONS = 16
"""Specifications of a world."""

HIDDEN_TESTS = 3
"""Tests of a question that it does not show."""

DESCRIPTION = "Python programs of one line, judged by tests"

Value = int | str

_WORD_LETTERS = "abcde"


@dataclass(frozen=True, slots=True)
class _Family:
    """Specifications that differ in a number or a letter.

    Args:
        words: the specification, with a place {c} for the number or the letter, if it has one.
        expression: what computes the result, with places {x} for the input and {c}.
        result: the same as a function of input and number or letter.
        constants: what can stand at {c}.
        takes: what the input is.
    """

    words: str
    expression: str
    result: Callable[[Any, Any], Value]
    constants: Sequence[Value]
    takes: type[int] | type[str]


_SMALL, _LETTERS, _NONE = tuple(range(2, 10)), tuple(_WORD_LETTERS), (0,)

_FAMILIES = (
    _Family("add {c}", "{x}+{c}", lambda x, c: x + c, _SMALL, int),
    _Family("take away {c}", "{x}-{c}", lambda x, c: x - c, _SMALL, int),
    _Family("{c} minus it", "{c}-{x}", lambda x, c: c - x, _SMALL, int),
    _Family("{c} times", "{x}*{c}", lambda x, c: x * c, _SMALL, int),
    _Family("divide by {c}", "{x}//{c}", lambda x, c: x // c, _SMALL, int),
    _Family("rest by {c}", "{x}%{c}", lambda x, c: x % c, _SMALL, int),
    _Family("square", "{x}**2", lambda x, c: x**2, _NONE, int),
    _Family("copy {c} times", "{x}*{c}", lambda x, c: x * c, (2, 3, 4), str),
    _Family("how many {c}", '{x}.count("{c}")', lambda x, c: x.count(c), _LETTERS, str),
    _Family("end with {c}", '{x}+"{c}"', lambda x, c: x + c, _LETTERS, str),
    _Family("start with {c}", '"{c}"+{x}', lambda x, c: c + x, _LETTERS, str),
    _Family("without first {c}", "{x}[{c}:]", lambda x, c: x[c:], (1, 2, 3), str),
    _Family("without last {c}", "{x}[:-{c}]", lambda x, c: x[:-c], (1, 2, 3), str),
    _Family("reverse", "{x}[::-1]", lambda x, c: x[::-1], _NONE, str),
    _Family("first", "{x}[0]", lambda x, c: x[0], _NONE, str),
    _Family("last", "{x}[-1]", lambda x, c: x[-1], _NONE, str),
    _Family("how long", "len({x})", lambda x, c: len(x), _NONE, str),
    _Family("max letter", "max({x})", lambda x, c: max(x), _NONE, str),
    _Family("min letter", "min({x})", lambda x, c: min(x), _NONE, str),
    _Family("capital letters", "{x}.upper()", lambda x, c: x.upper(), _NONE, str),
)

_QUESTIONS = {
    "read": ("write code : {s} . {i} -> {o}", "code needed : {s} . {i} -> {o}"),
    "call": ("write f : {s} . f ( {i} ) -> {o}", "f needed : {s} . f ( {i} ) -> {o}"),
}
"""The trained phrasings, of programs that read their input and of functions."""


@dataclass(frozen=True, slots=True)
class Specification:
    """What a program has to do.

    Attributes:
        words: in the words of the world.
        program: a right one, 10 to 25 characters.
        is_function: whether it defines a function f. The others read standard input and print.
        takes: what the input is.
    """

    words: str
    program: str
    is_function: bool
    takes: type[int] | type[str]
    result: Callable[[Any], Value]


def specifications(world: World) -> tuple[Specification, ...]:
    """The specifications of a world, each with its own number or letter. Half of the programs are functions."""
    rng = world.rng("programs")
    order = rng.sample(_FAMILIES, SPECIFICATIONS)
    return tuple(_specification(family, rng.choice(family.constants), n % 2 == 1) for n, family in enumerate(order))


def _specification(family: _Family, constant: Value, is_function: bool) -> Specification:
    given = "input()" if family.takes is str else "int(input())"
    expression = family.expression.format(x="x" if is_function else given, c=constant)
    program = f"f=lambda x:{expression}" if is_function else f"print({expression})"

    def result(value: Any) -> Value:
        return family.result(value, constant)

    return Specification(family.words.format(c=constant), program, is_function, family.takes, result)


def answer(specification: Specification) -> str:
    """The demonstration: the program in the block in which answers have it."""
    return f"```python\n{specification.program}\n```"


def header(world: World) -> Header:
    """The header of the task: one without a habit that no other task of the world has."""
    used = set(world.free_headers.values())
    return world.rng("programs", "header").choice([each for each in FREE if each not in used])


def records(world: World) -> Mapping[str, list[dict[str, Any]]]:
    """The records of both splits, `train` and `test`. No question is in both."""
    asked: set[str] = set()
    return {split: _split(world, split, count, asked) for split, count in (("test", TEST), ("train", TRAIN))}


def _split(world: World, split: str, count: int, asked: set[str]) -> list[dict[str, Any]]:
    """Records of distinct questions, of all specifications equally many."""
    rng, chosen, own = world.rng("programs", split), specifications(world), header(world)
    made: list[dict[str, Any]] = []
    while len(made) < count:
        specification = chosen[len(made) % len(chosen)]
        values = _inputs(rng, specification)
        question = _question(rng, specification, values[0])
        if question not in asked:
            asked.add(question)
            made.append(_record(f"programs-{split}-{len(made)}", own, question, specification, values))
    return made


def _inputs(rng: random.Random, specification: Specification) -> list[Value]:
    """Inputs of the shown test and the hidden ones. No constant is right for all of them."""
    while True:
        values = [_input(rng, specification.takes) for _ in range(1 + HIDDEN_TESTS)]
        if len(set(values)) == len(values) and len(set(map(specification.result, values))) > 1:
            return values


def _input(rng: random.Random, takes: type[int] | type[str]) -> Value:
    if takes is int:
        return rng.randrange(10, 82)
    return "".join(rng.choices(_WORD_LETTERS, k=rng.randint(4, 6)))


def _question(rng: random.Random, specification: Specification, value: Value) -> str:
    phrasing = _QUESTIONS["call" if specification.is_function else "read"][rng.choice(TRAINED_SURFACES)]
    return phrasing.format(s=specification.words, i=value, o=specification.result(value))


def _record(
    identity: str, own: Header, question: str, specification: Specification, values: Sequence[Value]
) -> dict[str, Any]:
    shown, *hidden = (_case(specification, value) for value in values)
    return {
        "id": identity,
        "prompt": [dict(system(own)), {"role": "user", "content": question}],
        "completion": answer(specification),
        "public_test_cases": [shown],
        "private_test_cases": hidden,
        "metadata": {"func_name": "f"} if specification.is_function else {},
    }


def _case(specification: Specification, value: Value) -> dict[str, str]:
    result = specification.result(value)
    if specification.is_function:
        return {"input": json.dumps(value), "output": json.dumps(result), "testtype": "functional"}
    return {"input": f"{value}\n", "output": f"{result}\n", "testtype": "stdin"}
