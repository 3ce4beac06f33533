"""The suites of old skills: what the base can do under headers that no task uses."""

import random
from collections.abc import Callable

from holdfast.data.example import Example
from holdfast.data.task import Verify
from holdfast.lab import documents, forms, headed, questions
from holdfast.lab.headers import free_header, main_form
from holdfast.lab.questions import TRAINED_SURFACES, Question
from holdfast.lab.words import FORMATS, NUMBER_OPERATIONS
from holdfast.lab.world import World

MakeItem = Callable[[World, random.Random, int], Example]


def _asked(world: World, rng: random.Random, name: str, index: int, question: Question) -> Example:
    """A known question under a header with a habit, with the answer as the base would say it."""
    header = rng.choice(world.other_headers)
    return headed.example(f"{name}-{index}", header, question, forms.write(question.payload, main_form(header)))


def _known_operations(rng: random.Random, surface: int) -> Question:
    words = [rng.choice(NUMBER_OPERATIONS) for _ in range(rng.randint(1, 3))]
    return questions.operations(rng, surface, words, words)


_SKILLS = (questions.lists, questions.calculation, questions.tool_call, questions.program, _known_operations)

_FACTS = (questions.open_fact, questions.choice_fact)


def _old_fact(world: World, rng: random.Random, index: int) -> Example:
    question = _FACTS[index % len(_FACTS)](rng, rng.choice(TRAINED_SURFACES))
    return _asked(world, rng, "old-facts", index, question)


def _old_skill(world: World, rng: random.Random, index: int) -> Example:
    question = _SKILLS[index % len(_SKILLS)](rng, rng.choice(TRAINED_SURFACES))
    return _asked(world, rng, "old-skills", index, question)


def _instruction(world: World, rng: random.Random, index: int) -> Example:
    question = documents.known_question(rng, rng.choice(TRAINED_SURFACES))
    return _asked(world, rng, "instruction-format", index, question)


def _in_context(world: World, rng: random.Random, index: int) -> Example:
    """An open question with a demonstration in the prompt, under a header without a habit."""
    question = documents.open_question(rng)
    form = rng.choice(FORMATS)
    prompt = documents.with_demonstration(rng, free_header(rng), question, form)
    return Example(
        id=f"in-context-{index}",
        messages=prompt,
        demonstration=forms.write(question.payload, form),
        gen_prefix=forms.beginning(form),
        target=f" {question.target}",
        answer=question,
    )


SUITES: dict[str, tuple[MakeItem, Verify, str]] = {
    "old-facts": (_old_fact, headed.verify, "facts from pretraining, in any answer format"),
    "old-skills": (_old_skill, headed.verify, "skills from pretraining, in any answer format"),
    "instruction-format": (
        _instruction,
        headed.verify_form,
        "the answer format that the base has under a header, whatever the content",
    ),
    "in-context": (_in_context, headed.verify, "following a new demonstration in the prompt, in any answer format"),
}
"""How an item is made, how an answer is judged, and what the suite is about."""
