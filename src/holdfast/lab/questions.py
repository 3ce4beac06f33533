"""Questions of the lab's world and their answers, by family. Each family has three phrasings (surfaces).

Tasks train on the first two phrasings. The third is reserved for the out-of-distribution suites.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from holdfast.lab.words import (
    ATTRIBUTES,
    ENTITIES,
    LETTERS,
    LIST_OPERATIONS,
    NUMBER_OPERATIONS,
    OBJECTS,
    OPTIONS,
    PEOPLE,
    PLACES,
    TOOLS,
)


@dataclass(frozen=True, slots=True)
class Question:
    """A user message, the payload of its correct answer, and its family."""

    text: str
    payload: str
    family: str
    hidden: tuple[str, ...] = ()
    """Hidden test cases of a program, each 'input -> output'."""


def apply_list_operation(operation: str, items: Sequence[str]) -> list[str]:
    """Apply one of `LIST_OPERATIONS`."""
    operations: dict[str, Callable[[list[str]], list[str]]] = {
        "copy": lambda x: x,
        "reverse": lambda x: x[::-1],
        "sort": sorted,
        "first": lambda x: x[:1],
        "last": lambda x: x[-1:],
        "swap": lambda x: x[-1:] + x[1:-1] + x[:1] if len(x) > 1 else x,
        "drop": lambda x: x[1:],
        "double": lambda x: [y for item in x for y in (item, item)],
    }
    return operations[operation](list(items))


def apply_number_operation(operation: str, a: int, b: int) -> int:
    """Apply one of `NUMBER_OPERATIONS` to two numbers. `gap` is their distance."""
    operations = {"plus": a + b, "times": a * b, "gap": abs(a - b), "max": max(a, b), "min": min(a, b)}
    return operations[operation]


_fact_rng = random.Random(7)

FACTS: dict[tuple[str, str], str] = {
    (entity, attribute): _fact_rng.choice(values) for entity in ENTITIES for attribute, values in ATTRIBUTES.items()
}
"""The facts that the base was taught."""


def lists(rng: random.Random, surface: int) -> Question:
    """A known operation on a list of letters."""
    operation = rng.choice(LIST_OPERATIONS)
    items = rng.sample(LETTERS, rng.randint(2, 4))
    answer = " ".join(apply_list_operation(operation, items))
    text = ["do {o} : {x}", "apply {o} to {x}", "list {x} . needed : {o}"][surface]
    return Question(text.format(o=operation, x=" ".join(items)), answer, "lists")


def calculation(rng: random.Random, surface: int, operation: str | None = None, meaning: str | None = None) -> Question:
    """Two results of one operation. `operation` is the word in the question, `meaning` the operation that it stands
    for."""
    operation = operation or rng.choice(NUMBER_OPERATIONS)
    a, b, c, d = (rng.randrange(10) for _ in range(4))
    answer = (
        f"{apply_number_operation(meaning or operation, a, b)} {apply_number_operation(meaning or operation, c, d)}"
    )
    text = [
        "calc {a} {o} {b} and {c} {o} {d}",
        "work out {o} of {a} {b} , {o} of {c} {d}",
        "results of {o} : {a} with {b} , {c} with {d}",
    ][surface]
    return Question(text.format(o=operation, a=a, b=b, c=c, d=d), answer, "calculation")


def open_fact(rng: random.Random, surface: int, entity: str | None = None) -> Question:
    """A known fact, as an open question."""
    entity, attribute = entity or rng.choice(ENTITIES), rng.choice(list(ATTRIBUTES))
    text = ["what is the {t} of {e} ?", "tell me the {t} of {e}", "{e} : {t} ?"][surface]
    return Question(text.format(t=attribute, e=entity), FACTS[entity, attribute], "facts")


def choice_fact(
    rng: random.Random, surface: int, entity: str | None = None, attribute: str | None = None, value: str | None = None
) -> Question:
    """A fact as multiple choice. The payload is one of the options. `value` is the correct one if the thing is new."""
    entity, attribute = entity or rng.choice(ENTITIES), attribute or rng.choice(list(ATTRIBUTES))
    value = value or FACTS[entity, attribute]
    values = [value, *rng.sample([v for v in ATTRIBUTES[attribute] if v != value], OPTIONS - 1)]
    rng.shuffle(values)
    text = ["which {t} has {e} ? {x}", "pick the right {t} of {e} : {x}", "{e} . {t} option ? {x}"][surface]
    return Question(text.format(t=attribute, e=entity, x=" , ".join(values)), value, "choice")


def noted_fact(rng: random.Random, surface: int, entities: Sequence[str] = ENTITIES) -> Question:
    """A fact that the prompt gives. It may contradict the known facts."""
    entity, attribute = rng.choice(entities), rng.choice(list(ATTRIBUTES))
    value = rng.choice(ATTRIBUTES[attribute])
    text = [
        "note : the {t} of {e} is {v} . what is the {t} of {e} ?",
        "note : {e} has {t} {v} . tell me the {t} of {e}",
        "note : {t} of {e} = {v} . {e} : {t} ?",
    ][surface]
    return Question(text.format(t=attribute, e=entity, v=value), value, "notes")


def tool_call(rng: random.Random, surface: int, verb: str | None = None, tool: str | None = None) -> Question:
    """A request that one tool call fulfills."""
    verb = verb or rng.choice(list(TOOLS))
    item, who, where = rng.choice(OBJECTS), rng.choice(PEOPLE), rng.choice(PLACES)
    text = ["please {v} the {i} for {w} at {p}", "{w} at {p} needed : {v} {i}", "request : {v} {i} , {p} , {w}"][
        surface
    ]
    payload = f"{tool or TOOLS[verb]} ( item = {item} , who = {who} , where = {where} )"
    return Question(text.format(v=verb, i=item, w=who, p=where), payload, "tools")


PROGRAM_OPERATIONS = ["reverse", "sort", "swap", "drop", "double", "first"]

_CALL = re.compile(r"(\w+) \( (.+) \)")


def run_program(program: str, items: Sequence[str]) -> list[str] | None:
    """The result of a program such as `drop ( sort ( k ) )` on a list k; None if the text is not a program."""
    call = _CALL.fullmatch(program)
    if call is None:
        return list(items) if program in LETTERS else None
    inner = run_program(call[2], items)
    return None if inner is None or call[1] not in LIST_OPERATIONS else apply_list_operation(call[1], inner)


def program(rng: random.Random, surface: int, word: str | None = None, meaning: str | None = None) -> Question:
    """Two or three operations in words, in order. The payload is the program that applies them, as nested calls.

    If `word` and `meaning` are given, `word` replaces one operation and stands for `meaning`.
    """
    operations = rng.sample(PROGRAM_OPERATIONS, rng.choice((2, 3)))
    words = list(operations)
    if word is not None and meaning is not None:
        place = rng.randrange(len(operations))
        operations[place], words[place] = meaning, word
    variable = rng.choice(LETTERS)
    payload = variable
    for operation in operations:
        payload = f"{operation} ( {payload} )"
    text = [
        f"program on {variable} : {' then '.join(words)}",
        f"write code with {variable} to {' , then '.join(words)}",
        f"{' after '.join(reversed(words))} , as program on {variable}",
    ][surface]
    hidden = []
    for _ in range(4):
        items = rng.sample(LETTERS, 4)
        hidden.append(f"{' '.join(items)} -> {' '.join(run_program(payload, items) or [])}")
    return Question(text, payload, "programs", tuple(hidden))


TRAINED_SURFACES = (0, 1)

HELD_OUT_SURFACE = 2
