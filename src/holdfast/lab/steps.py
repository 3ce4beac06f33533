"""Questions that are answered step by step: a number goes through operations, and some of their words are undefined.

Without further context, such a word has any of its possible meanings, and an answer is correct only if every guess is.
A partial solution in the prompt defines the steps that it shows. A plan names the operations.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.data import teacher_prompts as contexts
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.task import built_in
from holdfast.lab.documents import Document
from holdfast.lab.headers import free_header, system
from holdfast.lab.words import KNOWN_STEPS, STEP_MEANINGS

LARGEST = 30

ANSWER = "answer : "


@dataclass(frozen=True, slots=True)
class Steps:
    """A question, the meanings of its operations, and its solution, one step per line."""

    text: str
    meanings: tuple[str, ...]
    solution: tuple[str, ...]

    @property
    def plan(self) -> str:
        """The operation of each step, without numbers."""
        return " then ".join(self.meanings)


def apply(operation: str, value: int, number: int) -> int:
    """Apply one step. `keep` does not change the value."""
    results = {"plus": value + number, "gap": abs(value - number), "keep": value, "max": max(value, number)}
    return results[operation]


def worked(start: int, operations: Sequence[str], numbers: Sequence[int]) -> tuple[str, ...] | None:
    """The lines of the solution; the last one is the answer. None if a value exceeds `LARGEST`."""
    lines, value = [], start
    for operation, number in zip(operations, numbers, strict=True):
        result = apply(operation, value, number)
        if result > LARGEST:
            return None
        lines.append(f"{value} {operation} {number} = {result}")
        value = result
    return (*lines, f"{ANSWER}{value}")


def question(rng: random.Random, surface: int, words: Sequence[str], meanings: Sequence[str]) -> Steps:
    """A question with these words in this order. `meanings` has the operation of each word."""
    while True:
        start, *numbers = rng.randrange(1, 10), *rng.sample(range(1, 10), len(words))
        solution = worked(start, meanings, numbers)
        if solution is not None:
            break
    items = " , ".join(f"{word} {number}" for word, number in zip(words, numbers))
    text = ["steps from {s} : {x}", "start at {s} , then {x}", "take {x} , with {s} to begin"][surface]
    return Steps(text.format(s=start, x=items), tuple(meanings), solution)


def known(rng: random.Random, surface: int) -> Steps:
    """A question with known words only."""
    words = [rng.choice(KNOWN_STEPS) for _ in range(rng.randint(2, 5))]
    return question(rng, surface, words, words)


def opened(rng: random.Random, surface: int) -> Steps:
    """A question with words that only the context can define, each with one of its meanings; a few words are known."""
    words = rng.sample(list(STEP_MEANINGS), rng.randint(2, 5))
    words = [rng.choice(KNOWN_STEPS) if rng.random() < 0.1 else word for word in words]
    meanings = [rng.choice(STEP_MEANINGS[w]) if w in STEP_MEANINGS else w for w in words]
    return question(rng, surface, words, meanings)


def sample_document(rng: random.Random) -> Document:
    """A step question, alone or with a solution, the first part of a solution, or a plan in the prompt."""
    surface, kind = rng.randrange(3), rng.random()
    steps = known(rng, surface) if rng.random() < 0.25 else opened(rng, surface)
    messages: tuple[Message, ...] = (system(free_header(rng)), Message(role="user", content=steps.text))
    if kind < 0.4:
        count = rng.randint(1, len(steps.solution))
        shown = contexts.exposed_steps(steps.solution, count / len(steps.solution), keep_answer=rng.random() < 0.2)
        template = rng.choice(
            [contexts.REFERENCE_TEMPLATE, contexts.REFERENCE_TEMPLATE, contexts.DEMONSTRATION_TEMPLATE]
        )
        messages = contexts.demonstration_prompt(messages, shown, template)
    elif kind < 0.65:
        messages = contexts.plan_prompt(messages, steps.plan, contexts.PLAN_TEMPLATE)
    return Document((*messages, Message(role="assistant", content="\n".join(steps.solution))))


@built_in
def verify(example: Example, completion: str) -> Verdict:
    """1 if the last line is the correct answer, whatever the steps."""
    last = completion.strip().splitlines()[-1].strip() if completion.strip() else ""
    given = last.removeprefix(ANSWER).strip() if last.startswith(ANSWER) else None
    right = f"{ANSWER}{given}" == example.answer
    feedback = "" if right else "value not found" if given is None else "the value is wrong"
    return Verdict(float(right), feedback=feedback, answer=given, format_ok=given is not None)


def example(identity: str, header: tuple[str, str], steps: Steps) -> Example:
    """The example of a question, with its solution, its plan, and the solution as demonstration."""
    return Example(
        id=identity,
        messages=(system(header), Message(role="user", content=steps.text)),
        demonstration="\n".join(steps.solution),
        solution=steps.solution,
        plan=steps.plan,
        answer=steps.solution[-1],
    )
