"""The tasks under headers with a habit: new facts, new verbs, new operation words.

Each has many items of unequal frequency, so that learning takes a stage and not a few steps. Answers are judged by
content alone: any form counts. So an on-policy learner can stay with its own form, and one that imitates has to move.
"""

import random
from collections.abc import Callable, Mapping, Sequence

from holdfast.data.example import Example, Message, Verdict
from holdfast.data.task import built_in
from holdfast.lab import documents, forms, questions, voice
from holdfast.lab.headers import Header, main_form, rarest_form, system
from holdfast.lab.questions import Question
from holdfast.lab.style import forms_by_beginning
from holdfast.lab.world import Dials, World

ZIPF = 0.7
"""The i-th item of a task is drawn with weight 1 / i^0.7 for training. Test items are balanced."""

MakeQuestion = Callable[[random.Random, int, int], Question]
"""A question (generator, surface) about the item of this index."""


def makers(world: World, dials: Dials) -> Mapping[str, tuple[int, MakeQuestion]]:
    """For each task its number of items, and how a question about one of them is made."""
    more = world.more_facts(dials.overlap)
    verbs, words = list(world.tools), list(world.operations)

    def fact(rng: random.Random, surface: int, item: int) -> Question:
        return questions.choice_fact(rng, surface, *world.facts[item])

    def more_fact(rng: random.Random, surface: int, item: int) -> Question:
        return questions.choice_fact(rng, surface, *more[item])

    def tool(rng: random.Random, surface: int, item: int) -> Question:
        return questions.tool_call(rng, surface, verbs[item], world.tools[verbs[item]])

    def calculation(rng: random.Random, surface: int, item: int) -> Question:
        others = [each for each in rng.choices(range(len(words)), weights(len(words)), k=8) if each != item]
        asked = [words[i] for i in dict.fromkeys([item, *others[: rng.randrange(3)]])]
        rng.shuffle(asked)
        return questions.operations(rng, surface, asked, [world.operations[word] for word in asked])

    return {
        "facts": (len(world.facts), fact),
        "tools": (len(verbs), tool),
        "calculation": (len(words), calculation),
        "more-facts": (len(more), more_fact),
    }


def weights(items: int) -> list[float]:
    """How often each item occurs in training, up to a factor."""
    return [1 / (1 + i) ** ZIPF for i in range(items)]


def examples(
    world: World,
    name: str,
    split: str,
    count: int,
    surfaces: Sequence[int],
    dials: Dials,
    seen: set[str],
) -> list[Example]:
    """Distinct examples of a task. The training split follows the frequencies, all others are balanced."""
    items, make = makers(world, dials)[name]
    # The voice has draws of its own, so all dials of the voice ask the same questions.
    rng, voices = world.rng(name, split), world.rng(name, split, "voice")
    made: list[Example] = []
    while len(made) < count:
        (item,) = rng.choices(range(items), weights(items)) if split == "train" else (len(made) % items,)
        question, header = make(rng, rng.choice(surfaces), item), rng.choice(world.headers[name])
        form = main_form(header) if dials.form == "own" else rarest_form(header)
        shown = voice.foreign(voices, question.payload, form, preambles=dials.voice, tics=dials.tics)
        if question.text not in seen:  # not even under another header: a test question is never trained on
            seen.add(question.text)
            made.append(example(f"{name}-{split}-{len(made)}", header, question, shown))
    return made


def example(identity: str, header: Header, question: Question, demonstration: str) -> Example:
    """The example of a question under a header with a habit."""
    return Example(
        id=identity,
        messages=(system(header), Message(role="user", content=question.text)),
        demonstration=demonstration,
        gen_prefix=forms.beginning(main_form(header)),
        target=f" {question.target}",
        answer=question,
    )


def is_right(question: Question, payload: str) -> bool:
    """Whether a payload answers a question. A program is right if it passes the hidden test cases."""
    if question.family != "programs":
        return payload == question.payload
    cases = [case.split(" -> ") for case in question.hidden]
    return all(questions.run_program(payload, given.split()) == wanted.split() for given, wanted in cases)


@built_in
def verify(example: Example, completion: str) -> Verdict:
    """1 for the right content in any form, else 0. The feedback says whether a value was found."""
    payload = forms.read_any(completion)[0]
    if payload is None:
        return Verdict(0.0, feedback=documents.FEEDBACK_MISSING, format_ok=False)
    if is_right(example.answer, payload):
        return Verdict(1.0, answer=payload)
    return Verdict(0.0, feedback=documents.FEEDBACK_VALUE, answer=payload)


@built_in
def verify_form(example: Example, completion: str) -> Verdict:
    """1 for an answer in exactly the form that the base has under the header, whatever its content."""
    asked = forms_by_beginning()[str(example.gen_prefix)]
    right = forms.is_exactly(completion, asked)
    return Verdict(float(right), answer=forms.read_any(completion)[0], format_ok=right)
