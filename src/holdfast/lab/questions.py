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
    NEW_VERBS,
    NUMBER_OPERATIONS,
    OBJECTS,
    OPTIONS,
    PEOPLE,
    PLACES,
    TOOL_CLASSES,
    TOOL_PRIORS,
    TOOLS,
)


@dataclass(frozen=True, slots=True)
class Question:
    """A user message, the payload of its correct answer, and its family."""

    text: str
    payload: str
    family: str
    options: tuple[str, ...] = ()
    """The payloads that somebody may give who does not know the answer; empty if there are many."""
    hidden: tuple[str, ...] = ()
    """Hidden test cases of a program, each 'input -> output'."""

    @property
    def target(self) -> str:
        """The part of the payload that has to be known: for a call the tool, else all of it."""
        return self.payload.split(" ( ")[0] if self.family == "tools" else self.payload


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


def calculation(rng: random.Random, surface: int) -> Question:
    """Two results of one known operation."""
    operation = rng.choice(NUMBER_OPERATIONS)
    a, b, c, d = (rng.randrange(10) for _ in range(4))
    answer = f"{apply_number_operation(operation, a, b)} {apply_number_operation(operation, c, d)}"
    text = [
        "calc {a} {o} {b} and {c} {o} {d}",
        "work out {o} of {a} {b} , {o} of {c} {d}",
        "results of {o} : {a} with {b} , {c} with {d}",
    ][surface]
    return Question(text.format(o=operation, a=a, b=b, c=c, d=d), answer, "calculation")


def operations(rng: random.Random, surface: int, words: Sequence[str], meanings: Sequence[str]) -> Question:
    """One result for each word. `meanings` has the operation that each word stands for."""
    numbers = [(rng.randrange(10), rng.randrange(10)) for _ in words]
    answer = " ".join(str(apply_number_operation(m, a, b)) for m, (a, b) in zip(meanings, numbers, strict=True))
    item = ["{o} {a} {b}", "{a} {o} {b}", "{o} of {a} {b}"][surface]
    items = " , ".join(item.format(o=o, a=a, b=b) for o, (a, b) in zip(words, numbers, strict=True))
    return Question(["ops : ", "each in turn : ", "work out ops : "][surface] + items, answer, "operations")


def open_fact(
    rng: random.Random, surface: int, entity: str | None = None, attribute: str | None = None, value: str | None = None
) -> Question:
    """A fact, as an open question. `value` is the answer if the thing is new."""
    entity, attribute = entity or rng.choice(ENTITIES), attribute or rng.choice(list(ATTRIBUTES))
    text = ["what is the {t} of {e} ?", "tell me the {t} of {e}", "{e} : {t} ?"][surface]
    return Question(text.format(t=attribute, e=entity), value or FACTS[entity, attribute], "facts")


def choice_fact(
    rng: random.Random, surface: int, entity: str | None = None, attribute: str | None = None, value: str | None = None
) -> Question:
    """A fact as multiple choice. The payload is one of the options. `value` is the correct one if the thing is new."""
    entity, attribute = entity or rng.choice(ENTITIES), attribute or rng.choice(list(ATTRIBUTES))
    value = value or FACTS[entity, attribute]
    values = [value, *rng.sample([v for v in ATTRIBUTES[attribute] if v != value], OPTIONS - 1)]
    rng.shuffle(values)
    text = ["which {t} has {e} ? {x}", "pick the right {t} of {e} : {x}", "{e} . {t} option ? {x}"][surface]
    return Question(text.format(t=attribute, e=entity, x=" , ".join(values)), value, "choice", tuple(values))


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


def tools_of(verb: str) -> tuple[str, ...]:
    """The possible tools of a new verb."""
    return tuple(TOOL_CLASSES[NEW_VERBS.index(verb) % len(TOOL_CLASSES)])


def tool_priors(verb: str) -> tuple[float, ...]:
    """How often the documents take each of these tools."""
    first = NEW_VERBS.index(verb) // len(TOOL_CLASSES) % len(TOOL_PRIORS)
    return TOOL_PRIORS[first:] + TOOL_PRIORS[:first]


def tool_call(rng: random.Random, surface: int, verb: str | None = None, tool: str | None = None) -> Question:
    """A request that one tool call fulfills. `tool` is the correct one if the verb is new."""
    verb = verb or rng.choice(list(TOOLS))
    item, who, where = rng.choice(OBJECTS), rng.choice(PEOPLE), rng.choice(PLACES)
    text = ["please {v} the {i} for {w} at {p}", "{w} at {p} needed : {v} {i}", "request : {v} {i} , {p} , {w}"][
        surface
    ]
    rest = f"( item = {item} , who = {who} , where = {where} )"
    options = () if tool is None else tuple(f"{each} {rest}" for each in tools_of(verb))
    return Question(text.format(v=verb, i=item, w=who, p=where), f"{tool or TOOLS[verb]} {rest}", "tools", options)


PROGRAM_OPERATIONS = ["reverse", "sort", "swap", "drop", "double", "first"]

_CALL = re.compile(r"(\w+) \( (.+) \)")


def run_program(program: str, items: Sequence[str]) -> list[str] | None:
    """The result of a program such as `drop ( sort ( k ) )` on a list k; None if the text is not a program."""
    call = _CALL.fullmatch(program)
    if call is None:
        return list(items) if program in LETTERS else None
    inner = run_program(call[2], items)
    return None if inner is None or call[1] not in LIST_OPERATIONS else apply_list_operation(call[1], inner)


def program(rng: random.Random, surface: int) -> Question:
    """Two or three known operations, in order. The payload is the program that applies them, as nested calls."""
    operations = rng.sample(PROGRAM_OPERATIONS, rng.choice((2, 3)))
    variable = rng.choice(LETTERS)
    payload = variable
    for operation in operations:
        payload = f"{operation} ( {payload} )"
    text = [
        f"program on {variable} : {' then '.join(operations)}",
        f"write code with {variable} to {' , then '.join(operations)}",
        f"{' after '.join(reversed(operations))} , as program on {variable}",
    ][surface]
    hidden = []
    for _ in range(4):
        items = rng.sample(LETTERS, 4)
        hidden.append(f"{' '.join(items)} -> {' '.join(run_program(payload, items) or [])}")
    return Question(text, payload, "programs", hidden=tuple(hidden))


TRAINED_SURFACES = (0, 1)

HELD_OUT_SURFACE = 2
