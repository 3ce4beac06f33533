"""The conversations that the lab's base is pretrained on.

The mixture teaches the base to memorize some things, to follow its context otherwise, and to stay uncertain if neither
decides the answer. Kinds of documents:

* memorized header, known content: convention and answer come from memory;
* free header: any convention, constant over the turns of a conversation; a new word has any of its possible meanings;
* a demonstration in the prompt, in a wordy style: the base repeats its content and convention in its own plain style,
  even if they contradict the header or the known facts;
* feedback in the prompt that names a convention or says that a value is wrong.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.data import teacher_prompts as contexts
from holdfast.data.example import Message
from holdfast.lab import conventions, questions
from holdfast.lab.questions import Question
from holdfast.lab.words import (
    ATTRIBUTES,
    FORMATS,
    NEW_ENTITIES,
    NEW_LIST_MEANINGS,
    NEW_LIST_OPERATIONS,
    NEW_NUMBER_OPERATIONS,
    NEW_OPERATION_MEANINGS,
    NEW_VERB_MEANINGS,
    NEW_VERBS,
    preamble,
)

FEEDBACK_FORMAT = "the format is wrong : use {convention}"

FEEDBACK_VALUE = "the value is wrong"

FEEDBACK_MISSING = "value not found"


@dataclass(frozen=True, slots=True)
class Document:
    """A conversation. The base is trained on its assistant turns."""

    messages: tuple[Message, ...]


def system(header: conventions.Header) -> Message:
    return Message(role="system", content=" ".join(header))


def known_question(rng: random.Random, surface: int | None = None) -> Question:
    """A question that the base can answer from memory, with a skill, or from its prompt."""
    surface = rng.randrange(3) if surface is None else surface
    memory = (questions.open_fact, questions.choice_fact, questions.noted_fact)
    skills = (questions.lists, questions.calculation, questions.tool_call, questions.program)
    return rng.choices((*memory, *skills), weights=(13, 10, 6, 25, 18, 9, 11))[0](rng, surface)


def open_question(rng: random.Random) -> Question:
    """A question with a word or thing that only the context can define. Its payload is one of the possible answers."""
    surface = rng.randrange(3)
    kind = rng.random()
    if kind < 0.30:
        operation, meaning = rng.choice(NEW_NUMBER_OPERATIONS), rng.choice(NEW_OPERATION_MEANINGS)
        return questions.calculation(rng, surface, operation, meaning)
    if kind < 0.50:
        return questions.program(rng, surface, rng.choice(NEW_LIST_OPERATIONS), rng.choice(NEW_LIST_MEANINGS))
    if kind < 0.78:
        attribute = rng.choice(list(ATTRIBUTES))
        value = rng.choice(ATTRIBUTES[attribute])
        return questions.choice_fact(rng, surface, rng.choice(NEW_ENTITIES), attribute, value)
    return questions.tool_call(rng, surface, rng.choice(NEW_VERBS), rng.choice(NEW_VERB_MEANINGS))


def demonstration(rng: random.Random, payload: str, convention: str) -> str:
    """An answer in the style of the demonstrations: usually with a preamble."""
    before = preamble(rng) if rng.random() < 0.7 else ""
    return before + conventions.write(payload, convention)


def sample_document(rng: random.Random) -> Document:
    """One document of the mixture."""
    kind = rng.random()
    if kind < 0.30:
        header = rng.choice(list(conventions.MEMORIZED))
        turns = [(q.text, q.payload) for q in (known_question(rng) for _ in range(rng.randint(1, 3)))]
        return _conversation(header, turns, conventions.MEMORIZED[header])
    if kind < 0.46:
        turns = []
        for _ in range(rng.randint(1, 2)):
            q = open_question(rng) if rng.random() < 0.6 else known_question(rng)
            turns.append((q.text, q.payload))
        return _conversation(rng.choice(conventions.FREE), turns, rng.choice(FORMATS))
    if kind < 0.86:
        return demonstrated(rng, _any_header(rng))
    return after_feedback(rng)


def demonstrated(
    rng: random.Random, header: conventions.Header, question: Question | None = None, convention: str | None = None
) -> Document:
    """A question with a demonstration in the prompt. The answer follows it, in the base's own plain style."""
    if question is None:
        question = open_question(rng) if rng.random() < 0.5 else known_question(rng)
    payload = question.payload
    if rng.random() < 0.25:  # the payload of another question: the demonstration overrides knowledge
        other = open_question(rng) if rng.random() < 0.5 else known_question(rng)
        payload = other.payload
    convention = convention or rng.choice(FORMATS)
    shown = demonstration(rng, payload, convention)
    messages = (system(header), Message(role="user", content=question.text))
    if rng.random() < 0.6:
        prompt = contexts.demonstration_prompt(messages, shown, contexts.DEMONSTRATION_TEMPLATE)
    else:
        if rng.random() < 0.5:
            shown = conventions.write(payload, convention)
        feedback = _feedback(rng, convention) if rng.random() < 0.2 else None
        prompt = contexts.reprompt(messages, solution=shown, feedback=feedback)
    return Document((*prompt, Message(role="assistant", content=conventions.write(payload, convention))))


def after_feedback(rng: random.Random) -> Document:
    """A question with feedback in the prompt. If the feedback names a convention, the answer uses it."""
    header = _any_header(rng)
    question = open_question(rng) if rng.random() < 0.5 else known_question(rng)
    convention = conventions.MEMORIZED.get(header) or rng.choice(FORMATS)
    if rng.random() < 0.7:
        convention = rng.choice(FORMATS)
        feedback = FEEDBACK_FORMAT.format(convention=convention)
    else:
        feedback = rng.choice([FEEDBACK_VALUE, FEEDBACK_MISSING])
    messages = (system(header), Message(role="user", content=question.text))
    prompt = contexts.reprompt(messages, solution=None, feedback=feedback)
    return Document((*prompt, Message(role="assistant", content=conventions.write(question.payload, convention))))


def _feedback(rng: random.Random, convention: str) -> str:
    return rng.choice([FEEDBACK_VALUE, FEEDBACK_MISSING, FEEDBACK_FORMAT.format(convention=convention)])


def _any_header(rng: random.Random) -> conventions.Header:
    return rng.choice(list(conventions.MEMORIZED)) if rng.random() < 0.5 else rng.choice(conventions.FREE)


def _conversation(header: conventions.Header, turns: Sequence[tuple[str, str]], convention: str) -> Document:
    messages = [system(header)]
    for question, payload in turns:
        messages.append(Message(role="user", content=question))
        messages.append(Message(role="assistant", content=conventions.write(payload, convention)))
    return Document(tuple(messages))
