"""Questions of the lab's world, by family, each in three surface forms, with their answers.

The first two surface forms are what tasks train on; the third is kept for the out-of-distribution suites.
"""

import random
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
    """A user message, the payload of its right answer, and what it is about."""

    text: str
    payload: str
    family: str
    hidden: tuple[str, ...] = ()
    """Further inputs that a program must get right, each 'input -> output'."""


def apply_list_operation(operation: str, items: Sequence[str]) -> list[str]:
    """One list operation; the meaning of the words in `LIST_OPERATIONS`."""
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
    """One operation on two numbers; `gap` is their distance."""
    operations = {"plus": a + b, "times": a * b, "gap": abs(a - b), "max": max(a, b), "min": min(a, b)}
    return operations[operation]


_fact_rng = random.Random(7)
FACTS: dict[tuple[str, str], str] = {
    (entity, attribute): _fact_rng.choice(values) for entity in ENTITIES for attribute, values in ATTRIBUTES.items()
}
"""What the base has been taught about the world."""


def lists(rng: random.Random, surface: int) -> Question:
    """A known operation on a list of letters."""
    operation = rng.choice(LIST_OPERATIONS)
    items = rng.sample(LETTERS, rng.randint(2, 4))
    answer = " ".join(apply_list_operation(operation, items))
    text = ["do {o} : {x}", "apply {o} to {x}", "list {x} . needed : {o}"][surface]
    return Question(text.format(o=operation, x=" ".join(items)), answer, "lists")


def calculation(rng: random.Random, surface: int, operation: str | None = None, meaning: str | None = None) -> Question:
    """Two results of one operation; `operation` is its word, `meaning` what it stands for."""
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
    """A fact that the base knows, asked openly."""
    entity, attribute = entity or rng.choice(ENTITIES), rng.choice(list(ATTRIBUTES))
    text = ["what is the {t} of {e} ?", "tell me the {t} of {e}", "{e} : {t} ?"][surface]
    return Question(text.format(t=attribute, e=entity), FACTS[entity, attribute], "facts")


def choice_fact(
    rng: random.Random, surface: int, entity: str | None = None, attribute: str | None = None, value: str | None = None
) -> Question:
    """A fact as multiple choice; the payload is the value and its letter, so that recall comes before look-up.

    `value` gives the right one where the base knows none.
    """
    entity, attribute = entity or rng.choice(ENTITIES), attribute or rng.choice(list(ATTRIBUTES))
    value = value or FACTS[entity, attribute]
    values = [value, *rng.sample([v for v in ATTRIBUTES[attribute] if v != value], len(OPTIONS) - 1)]
    rng.shuffle(values)
    options = " ".join(f"{letter} {v}" for letter, v in zip(OPTIONS, values))
    text = ["which {t} has {e} ? {x}", "pick the right {t} of {e} : {x}", "{e} . {t} option ? {x}"][surface]
    payload = f"{value} = {OPTIONS[values.index(value)]}"
    return Question(text.format(t=attribute, e=entity, x=options), payload, "choice")


def noted_fact(rng: random.Random, surface: int, entities: Sequence[str] = ENTITIES) -> Question:
    """A fact that stands in the prompt, and that may contradict what is known."""
    entity, attribute = rng.choice(entities), rng.choice(list(ATTRIBUTES))
    value = rng.choice(ATTRIBUTES[attribute])
    text = [
        "note : the {t} of {e} is {v} . what is the {t} of {e} ?",
        "note : {e} has {t} {v} . tell me the {t} of {e}",
        "note : {t} of {e} = {v} . {e} : {t} ?",
    ][surface]
    return Question(text.format(t=attribute, e=entity, v=value), value, "notes")


def noted_choice(rng: random.Random, surface: int) -> Question:
    """A fact that stands in the prompt, asked as multiple choice."""
    entity, attribute = rng.choice(ENTITIES), rng.choice(list(ATTRIBUTES))
    value = rng.choice(ATTRIBUTES[attribute])
    question = choice_fact(rng, surface, entity, attribute, value)
    note = ["note : the {t} of {e} is {v} .", "note : {e} has {t} {v} .", "note : {t} of {e} = {v} ."][surface]
    text = f"{note.format(t=attribute, e=entity, v=value)} {question.text}"
    return Question(text, question.payload, "notes")


def tool_call(rng: random.Random, surface: int, verb: str | None = None, tool: str | None = None) -> Question:
    """A request that one tool call answers."""
    verb = verb or rng.choice(list(TOOLS))
    item, who, where = rng.choice(OBJECTS), rng.choice(PEOPLE), rng.choice(PLACES)
    text = ["please {v} the {i} for {w} at {p}", "{w} at {p} needed : {v} {i}", "request : {v} {i} , {p} , {w}"][
        surface
    ]
    payload = f"{tool or TOOLS[verb]} ( item = {item} , who = {who} , where = {where} )"
    return Question(text.format(v=verb, i=item, w=who, p=where), payload, "tools")


PROGRAM_OPERATIONS = ["reverse", "sort", "swap", "drop", "double", "first"]


def run_program(program: str, items: Sequence[str]) -> list[str] | None:
    """What a program (operations in order) makes of a list; None where a word is not an operation."""
    result = list(items)
    for word in program.split():
        if word not in LIST_OPERATIONS:
            return None
        result = apply_list_operation(word, result)
    return result


_PROGRAMS = [*PROGRAM_OPERATIONS, *(f"{a} {b}" for a in PROGRAM_OPERATIONS for b in PROGRAM_OPERATIONS if a != b)]
_PROBES = [list("tkaq"), list("bsdl"), list("rmpc"), list("qhf"), list("fqh")]


def _behaviour(program: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(run_program(program, probe) or ()) for probe in _PROBES)


def program(rng: random.Random, surface: int, share_of_two: float = 0.12) -> Question:
    """An input and an output; the payload is the shortest program, of one or two operations, that does it.

    Only examples that settle what the program does are asked: whatever fits them behaves alike on other inputs.
    """
    while True:
        operations = rng.sample(PROGRAM_OPERATIONS, 2 if rng.random() < share_of_two else 1)
        items = rng.sample(LETTERS, rng.randint(3, 4))
        output = run_program(" ".join(operations), items)
        if not output or output == items:
            continue
        fitting = [p for p in _PROGRAMS if run_program(p, items) == output]
        if len({_behaviour(p) for p in fitting}) == 1 and len(fitting[0].split()) == len(operations):
            break
    payload = fitting[0]
    text = ["program that turns {x} into {y}", "find {x} -> {y}", "show program : {x} to {y}"][surface]
    hidden = []
    for _ in range(3):
        other = rng.sample(LETTERS, len(items))
        hidden.append(f"{' '.join(other)} -> {' '.join(run_program(payload, other) or [])}")
    return Question(text.format(x=" ".join(items), y=" ".join(output)), payload, "programs", tuple(hidden))


TRAINED_SURFACES = (0, 1)
HELD_OUT_SURFACE = 2
