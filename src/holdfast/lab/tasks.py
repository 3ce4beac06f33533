"""The lab's stream of tasks, its retention suites and its out-of-distribution suites.

A task ties an unseen header to a convention and to something that the base does not know: the meaning of a new word, or
new facts. The kinds follow the papers: calculation, facts as multiple choice, tool calls, small programs. Before its
stage, the base solves some items of a task by chance, so sampling produces some successes.
"""

import random
from collections.abc import Callable, Sequence
from functools import cache

from holdfast.data.example import Example, Message, Verdict
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Suite, Task, Verify
from holdfast.errors import ConfigError
from holdfast.lab import conventions, documents, questions
from holdfast.lab.questions import HELD_OUT_SURFACE, TRAINED_SURFACES, Question
from holdfast.lab.wide_tasks import WIDE_SUITES, WIDE_TASKS, wide_suite, wide_task
from holdfast.lab.words import ATTRIBUTES, NEW_ENTITIES, TOOLS, preamble

TRAIN_ITEMS = 512

TEST_ITEMS = 640
"""At 640 items, a 95% interval extends at most 3.9 points to each side."""

FORMAT_CREDIT, VALUE_CREDIT = 0.2, 0.3
"""Partial credit for the correct format and for (a share of) the correct content. Together less than 0.5."""

_Maker = Callable[[random.Random, int], Question]

_Score = Callable[[Question, str], float | None]


def _calculation(rng: random.Random, surface: int) -> Question:
    return questions.calculation(rng, surface, "zib", "gap")


def _new_facts() -> list[tuple[str, str, str]]:
    rng = random.Random(11)
    return [(e, t, rng.choice(ATTRIBUTES[t])) for e in NEW_ENTITIES[:20] for t in rng.sample(list(ATTRIBUTES), 1)]


_NEW_FACTS = _new_facts()


def _facts(rng: random.Random, surface: int) -> Question:
    return questions.choice_fact(rng, surface, *rng.choice(_NEW_FACTS))


_NEW_TOOLS = {"frob": "post_message", "glim": "search_index", "snarp": "reserve_seat"}


def _tools(rng: random.Random, surface: int) -> Question:
    return questions.tool_call(rng, surface, *rng.choice(list(_NEW_TOOLS.items())))


_NEW_OPERATIONS = {"plim": "sort", "dorn": "swap", "yab": "reverse"}


def _programs(rng: random.Random, surface: int) -> Question:
    return questions.program(rng, surface, *rng.choice(list(_NEW_OPERATIONS.items())))


def _score_words(question: Question, payload: str) -> float:
    """Share of words in the correct position; 0 if the length differs."""
    right, given = question.payload.split(), payload.split()
    return sum(a == b for a, b in zip(right, given)) / len(right) if len(right) == len(given) else 0.0


def _score_numbers(question: Question, payload: str) -> float | None:
    return _score_words(question, payload) if all(w.isdigit() for w in payload.split()) else None


def _score_option(question: Question, payload: str) -> float | None:
    """1 if the correct option was chosen, else 0; None if the answer is not an option."""
    return float(payload == question.payload) if payload in question.text.split() else None


def _score_call(question: Question, payload: str) -> float | None:
    words = payload.split()
    known = words and words[0] in TOOLS.values()
    return _score_words(question, payload) if known and "(" in words else None


def _score_program(question: Question, payload: str) -> float | None:
    """Share of the hidden test cases that the program passes; None if it is not a program."""
    passed = 0
    for case in question.hidden:
        given, wanted = case.split(" -> ")
        result = questions.run_program(payload, given.split())
        if result is None:
            return None
        passed += result == wanted.split()
    return passed / len(question.hidden)


_TASKS: dict[str, tuple[_Maker, _Score, conventions.Header, str, str]] = {
    "calculation": (_calculation, _score_numbers, conventions.FRESH[0], "brackets", "what a new operation means"),
    "facts": (_facts, _score_option, conventions.FRESH[1], "label", "new facts, as multiple choice"),
    "tools": (_tools, _score_call, conventions.FRESH[2], "braces", "which tool fulfills a new kind of request"),
    "programs": (_programs, _score_program, conventions.FRESH[3], "sentence", "programs with new operations"),
}

TASKS: tuple[str, ...] = tuple(_TASKS)
"""Names of the lab's tasks, in the order of the default stream."""

ALL_TASKS: tuple[str, ...] = (*TASKS, *WIDE_TASKS)
"""Including the tasks of the wider world."""


def judge(convention: str, score: _Score) -> Verify:
    """A verifier: 1 for the correct content in the correct format, else partial credit below 0.5, with feedback."""

    def verify(example: Example, completion: str) -> Verdict:
        question: Question = example.answer
        payload = conventions.read(completion, convention)
        format_ok = payload is not None
        if payload is None:
            payload = conventions.read_any(completion)[0]
        value = score(question, payload) if payload is not None else None
        if format_ok and value == 1.0:
            return Verdict(1.0, answer=payload)
        if not format_ok:
            feedback = documents.FEEDBACK_FORMAT.format(convention=convention)
        else:
            feedback = documents.FEEDBACK_MISSING if value is None else documents.FEEDBACK_VALUE
        reward = FORMAT_CREDIT * format_ok + VALUE_CREDIT * (value or 0.0)
        return Verdict(reward, feedback=feedback, answer=payload, format_ok=format_ok)

    return verify


def _examples(name: str, split: str, count: int, surfaces: Sequence[int], seen: set[str]) -> list[Example]:
    make, _, header, convention, _ = _TASKS[name]
    rng = random.Random(derive_seed("lab", name, split))
    made: list[Example] = []
    while len(made) < count:
        question = make(rng, rng.choice(surfaces))
        before = preamble(rng) if rng.random() < 0.5 else ""
        if question.text in seen:
            continue
        seen.add(question.text)
        made.append(
            Example(
                id=f"{name}-{split}-{len(made)}",
                messages=(documents.system(header), Message(role="user", content=question.text)),
                demonstration=before + conventions.write(question.payload, convention),
                answer=question,
            )
        )
    return made


@cache
def lab_task(name: str) -> Task:
    """A task of the lab by name, including the wider world.

    Raises:
        ConfigError: there is no such task.
    """
    if name in WIDE_TASKS:
        return wide_task(name)
    if name not in _TASKS:
        raise ConfigError(f"the lab has no task {name!r}", fix=f"its tasks: {', '.join(ALL_TASKS)}")
    _, score, _, convention, description = _TASKS[name]
    seen: set[str] = set()
    test = _examples(name, "test", TEST_ITEMS, TRAINED_SURFACES, seen)
    train = _examples(name, "train", TRAIN_ITEMS, TRAINED_SURFACES, seen)
    return Task(name, train, test, judge(convention, score), description)


def _any_form(score: _Score) -> Verify:
    """A verifier that accepts the correct content in any convention, to measure skill without format."""

    def verify(example: Example, completion: str) -> Verdict:
        payload, convention = conventions.read_any(completion)
        right = payload is not None and score(example.answer, payload) == 1.0
        return Verdict(float(right), answer=payload, format_ok=convention is not None)

    return verify


def _exact_answer(example: Example, completion: str) -> Verdict:
    right = completion.strip() == example.answer
    return Verdict(float(right), format_ok=conventions.read_any(completion)[0] is not None)


def _exact_form(example: Example, completion: str) -> Verdict:
    right = conventions.is_exactly(completion, example.answer)
    return Verdict(float(right), format_ok=right)


def _score_any(question: Question, payload: str) -> float | None:
    return _score_program(question, payload) if question.family == "programs" else float(payload == question.payload)


def _asked(name: str, index: int, header: conventions.Header, question: Question, answer: object) -> Example:
    messages = (documents.system(header), Message(role="user", content=question.text))
    return Example(id=f"{name}-{index}", messages=messages, answer=answer)


def _memorized(rng: random.Random) -> conventions.Header:
    return rng.choice(list(conventions.MEMORIZED))


def _old_skill(rng: random.Random, index: int) -> Example:
    makers: list[_Maker] = [questions.lists, questions.calculation, questions.tool_call, questions.program]
    question = makers[index % len(makers)](rng, rng.choice(TRAINED_SURFACES))
    return _asked("old-skills", index, _memorized(rng), question, question)


def _old_fact(rng: random.Random, index: int) -> Example:
    makers: list[_Maker] = [questions.open_fact, questions.choice_fact]
    question = makers[index % len(makers)](rng, rng.choice(TRAINED_SURFACES))
    return _asked("old-facts", index, _memorized(rng), question, question)


def _context_fact(rng: random.Random, index: int) -> Example:
    question = questions.noted_fact(rng, rng.choice(TRAINED_SURFACES), NEW_ENTITIES[20:])
    return _asked("context-facts", index, rng.choice(conventions.FREE), question, question)


def _in_context(rng: random.Random, index: int) -> Example:
    document = documents.demonstrated(rng, rng.choice(conventions.FRESH[8:]))
    *prompt, answer = document.messages
    return Example(id=f"in-context-{index}", messages=tuple(prompt), answer=answer["content"])


def _instruction(rng: random.Random, index: int) -> Example:
    header = _memorized(rng)
    question = documents.known_question(rng, rng.choice(TRAINED_SURFACES))
    return _asked("instruction-format", index, header, question, conventions.MEMORIZED[header])


_RETENTION: dict[str, tuple[Callable[[random.Random, int], Example], Verify, str]] = {
    "old-skills": (_old_skill, _any_form(_score_any), "skills from pretraining, in any answer format"),
    "old-facts": (_old_fact, _any_form(_score_any), "facts from pretraining, in any answer format"),
    "context-facts": (_context_fact, _any_form(_score_any), "a new fact that the prompt gives"),
    "in-context": (_in_context, _exact_answer, "following a new demonstration under an unseen header"),
    "instruction-format": (
        _instruction,
        _exact_form,
        "the answer format that a memorized header asks for, whatever the content",
    ),
}

SUITES: tuple[str, ...] = (*_RETENTION, *(f"{name}-ood" for name in TASKS))
"""Names of the lab's suites: retention suites, then one out-of-distribution suite per task."""

ALL_SUITES: tuple[str, ...] = (*SUITES, *WIDE_SUITES)
"""Including the suites of the wider world."""


@cache
def lab_suite(name: str) -> Suite:
    """A suite of the lab by name, including the wider world.

    Raises:
        ConfigError: there is no such suite.
    """
    if name in WIDE_SUITES:
        return wide_suite(name)
    if name in _RETENTION:
        make, verifier, description = _RETENTION[name]
        rng = random.Random(derive_seed("lab", name))
        return Suite(name, "retention", [make(rng, i) for i in range(TEST_ITEMS)], verifier, description)
    task = name.removesuffix("-ood")
    if name not in SUITES:
        raise ConfigError(f"the lab has no suite {name!r}", fix=f"its suites: {', '.join(ALL_SUITES)}")
    _, score, _, convention, _ = _TASKS[task]
    items = _examples(task, "ood", TEST_ITEMS, (HELD_OUT_SURFACE,), set())
    return Suite(name, "ood", items, judge(convention, score), f"{task}, in a phrasing that is not trained")
