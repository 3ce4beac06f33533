"""The conversations about questions that the lab's base is pretrained on.

They teach the base to memorize some things, to follow its prompt otherwise, and to stay uncertain if neither decides
the answer:

* a question under a header, in the base's own voice: facts and skills come from memory, and so does the form if the
  base has a habit under the header. A new word has any of its possible meanings;
* a demonstration in the prompt, in a foreign voice: the base follows its content, even against its own knowledge. It
  follows its form and its tics only in part, and says the answer in its own voice;
* another question with its demonstration in the prompt: the base answers its own question by itself, and picks up the
  form in part;
* feedback in the prompt that names a form or says that a value is wrong;
* an answer of its own, and a cue that says whether it was right: the base revises it.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from holdfast.data import teacher_prompts as contexts
from holdfast.data.example import Message
from holdfast.lab import forms, questions, voice
from holdfast.lab.headers import FREE, HABITS, Header, draw_form, system
from holdfast.lab.questions import Question
from holdfast.lab.words import (
    ATTRIBUTES,
    FORMATS,
    NEW_ENTITIES,
    NEW_VERBS,
    NUMBER_OPERATIONS,
    OPERATION_MEANINGS,
    OPERATION_WORDS,
)

FEEDBACK_FORMAT = "the format is wrong : use {form}"

FEEDBACK_VALUE = "the value is wrong"

FEEDBACK_MISSING = "value not found"

FOLLOWS_FORM = 0.6
"""How often the base takes the form of a demonstration in its prompt although it has a habit under the header."""

KEEPS_TIC = 0.4
"""How often the base begins with the tic of a demonstration in its prompt."""

KEEPS_PREAMBLE = 0.06
"""How often the base writes a preamble because a demonstration in its prompt has one."""

FOLLOWS_STRANGER = 0.3
"""How often the base takes the form of a demonstration for another question."""

CONTRADICTS = 0.15
"""How often a demonstration in the prompt has the content of another question. It then overrides what the base
knows."""


@dataclass(frozen=True, slots=True)
class Document:
    """A conversation. The base is trained on its assistant turns.

    Args:
        given: the beginning of the last turn, which the base is not trained on.
    """

    messages: tuple[Message, ...]
    given: str = ""


def known_question(rng: random.Random, surface: int | None = None) -> Question:
    """A question that the base can answer from memory, with a skill, or from its prompt."""
    surface = rng.randrange(3) if surface is None else surface
    if rng.random() < 0.12:
        words = [rng.choice(NUMBER_OPERATIONS) for _ in range(rng.randint(1, 3))]
        return questions.operations(rng, surface, words, words)
    memory = (questions.open_fact, questions.choice_fact, questions.noted_fact)
    skills = (questions.lists, questions.calculation, questions.tool_call, questions.program)
    make: Callable[[random.Random, int], Question]
    (make,) = rng.choices((*memory, *skills), weights=(13, 12, 6, 25, 18, 9, 11))
    return make(rng, surface)


def open_question(rng: random.Random) -> Question:
    """A question with a word or thing that only the context can define. Its payload is one of the possible answers."""
    surface, kind = rng.randrange(3), rng.random()
    if kind < 0.3:
        words = rng.sample(OPERATION_WORDS, rng.randint(1, 3))
        return questions.operations(rng, surface, words, [rng.choice(OPERATION_MEANINGS) for _ in words])
    if kind < 0.75:
        make = questions.choice_fact if rng.random() < 0.65 else questions.open_fact
        attribute = rng.choice(list(ATTRIBUTES))
        return make(rng, surface, rng.choice(NEW_ENTITIES), attribute, rng.choice(ATTRIBUTES[attribute]))
    verb = rng.choice(NEW_VERBS)
    (tool,) = rng.choices(questions.tools_of(verb), questions.tool_priors(verb))
    return questions.tool_call(rng, surface, verb, tool)


def conversation(rng: random.Random) -> Document:
    """One to three questions under a header, answered in the base's own voice."""
    header = _any_header(rng, habit=0.65)
    form = None if header in HABITS else rng.choice(FORMATS)
    messages = [system(header)]
    for _ in range(rng.randint(1, 3)):
        question = _any_question(rng, new=0.4)
        messages.append(Message(role="user", content=question.text))
        messages.append(_answer(voice.own(rng, question.payload, form or draw_form(rng, header))))
    return Document(tuple(messages))


def demonstrated(rng: random.Random, header: Header | None = None, question: Question | None = None) -> Document:
    """A question with a demonstration in the prompt. The answer follows its content."""
    header = header or _any_header(rng, habit=0.5)
    question = question or _any_question(rng, new=0.55)
    payload = _any_question(rng, new=0.5).payload if rng.random() < CONTRADICTS else question.payload
    form = rng.choice(FORMATS)
    messages = (system(header), Message(role="user", content=question.text))
    kind = rng.random()
    shown = voice.foreign(rng, payload, form, preambles=0.5 if kind < 0.6 else 0.2)
    if kind < 0.45:
        prompt = contexts.demonstration_prompt(messages, shown, contexts.DEMONSTRATION_TEMPLATE)
    elif kind < 0.6:
        prompt = contexts.demonstration_prompt(messages, shown, contexts.REFERENCE_TEMPLATE)
    else:
        feedback = _feedback(rng, form) if rng.random() < 0.2 else None
        prompt = contexts.reprompt(messages, solution=shown, feedback=feedback)
    return Document((*prompt, _answer(_following(rng, header, payload, shown, form, FOLLOWS_FORM))))


def with_demonstration(rng: random.Random, header: Header, question: Question, form: str) -> tuple[Message, ...]:
    """The prompt of a question with a demonstration in a foreign voice."""
    messages = (system(header), Message(role="user", content=question.text))
    shown = voice.foreign(rng, question.payload, form)
    return contexts.demonstration_prompt(messages, shown, contexts.DEMONSTRATION_TEMPLATE)


def beside_another(rng: random.Random) -> Document:
    """A question with the demonstration of another question in the prompt. The content is the base's own."""
    header = _any_header(rng, habit=0.5)
    question, other = _any_question(rng, new=0.5), _any_question(rng, new=0.5)
    form = rng.choice(FORMATS)
    shown = voice.foreign(rng, other.payload, form, preambles=0.5)
    messages = (system(header), Message(role="user", content=question.text))
    prompt = contexts.other_example_prompt(messages, other.text, shown, contexts.OTHER_EXAMPLE_TEMPLATE)
    return Document((*prompt, _answer(_following(rng, header, question.payload, shown, form, FOLLOWS_STRANGER))))


def after_feedback(rng: random.Random) -> Document:
    """A question with feedback in the prompt. If the feedback names a form, the answer uses it."""
    header = _any_header(rng, habit=0.5)
    question = _any_question(rng, new=0.5)
    form = draw_form(rng, header)
    if rng.random() < 0.6:
        form = rng.choice(FORMATS)
        feedback = FEEDBACK_FORMAT.format(form=form)
    else:
        feedback = rng.choice([FEEDBACK_VALUE, FEEDBACK_MISSING])
    messages = (system(header), Message(role="user", content=question.text))
    prompt = contexts.reprompt(messages, solution=None, feedback=feedback)
    return Document((*prompt, _answer(voice.own(rng, question.payload, form))))


def revised(rng: random.Random) -> Document:
    """An answer, a cue that says whether it was right, and the revision. It repeats what was right, else it corrects
    it: with knowledge, or with another possible answer."""
    header = _any_header(rng, habit=0.5)
    question = _any_question(rng, new=0.6)
    wrong = _wrong_payload(rng, question)
    is_right = wrong is None or rng.random() < 0.35
    first = question.payload if is_right or wrong is None else wrong
    cue = contexts.RIGHT_CUE if is_right else contexts.WRONG_CUE
    given = contexts.revision_beginning(voice.own(rng, first, draw_form(rng, header)), cue)
    revision = voice.own(rng, question.payload, draw_form(rng, header))
    messages = (system(header), Message(role="user", content=question.text), _answer(revision))
    return Document(messages, given)


_KINDS = (conversation, demonstrated, beside_another, after_feedback, revised)

_SHARES = (0.45, 0.37, 0.05, 0.07, 0.06)


def sample_document(rng: random.Random) -> Document:
    """One document about a question."""
    (kind,) = rng.choices(_KINDS, _SHARES)
    return kind(rng)


def _answer(content: str) -> Message:
    return Message(role="assistant", content=content)


def _any_header(rng: random.Random, *, habit: float) -> Header:
    return rng.choice(list(HABITS)) if rng.random() < habit else rng.choice(FREE)


def _any_question(rng: random.Random, *, new: float) -> Question:
    return open_question(rng) if rng.random() < new else known_question(rng)


def _feedback(rng: random.Random, form: str) -> str:
    return rng.choice([FEEDBACK_VALUE, FEEDBACK_MISSING, FEEDBACK_FORMAT.format(form=form)])


def _following(rng: random.Random, header: Header, payload: str, shown: str, form: str, follows: float) -> str:
    """An answer of the base to a prompt with a demonstration: its form, tic and preamble are followed in part."""
    # Without a habit of its own, the base has no reason for another form.
    follows = follows if header in HABITS else max(follows, 0.9)
    own_form = form if rng.random() < follows else draw_form(rng, header)
    tic = voice.tic_of(shown)
    keeps_tic = tic is not None and rng.random() < KEEPS_TIC
    before = f"{tic} " if keeps_tic else voice.draw_tic(rng, voice.OWN_TIC_RATE)
    if voice.has_preamble(shown) and rng.random() < KEEPS_PREAMBLE:
        before += voice.preamble(rng)
    return before + forms.write(payload, own_form)


def _wrong_payload(rng: random.Random, question: Question) -> str | None:
    """A possible but wrong answer; None if the question has no plausible one."""
    if question.options:
        return rng.choice([option for option in question.options if option != question.payload])
    if question.family in ("operations", "calculation"):
        numbers = question.payload.split()
        place = rng.randrange(len(numbers))
        numbers[place] = str(rng.choice([n for n in range(19) if str(n) != numbers[place]]))
        return " ".join(numbers)
    if question.family in ("facts", "notes"):
        (values,) = [values for values in ATTRIBUTES.values() if question.payload in values]
        return rng.choice([value for value in values if value != question.payload])
    return None
