"""Verifiers whose verdicts a test can foresee, and environments.

Each process that judges imports this module, so it imports no library.
"""

from difflib import SequenceMatcher

from holdfast.data.example import Example, Message, Verdict


def never(example: Example, completion: str) -> Verdict:
    """No answer succeeds."""
    return Verdict(0.0)


def always(example: Example, completion: str) -> Verdict:
    """Every answer succeeds."""
    return Verdict(1.0)


def never_and_why(example: Example, completion: str) -> Verdict:
    """No answer succeeds, and the feedback says so."""
    return Verdict(0.0, feedback="that is not it")


def by_length(example: Example, completion: str) -> Verdict:
    """A graded reward that differs between answers and is never full."""
    return Verdict(min(0.9, len(completion) / 100))


def always_reads_b(example: Example, completion: str) -> Verdict:
    """The same answer is read from everything, and is right for one example."""
    return Verdict(float(example.id.endswith("-1")), answer="B")


def by_letters(example: Example, completion: str) -> Verdict:
    """A reward that a random model earns about half of the time."""
    good = sum(map(ord, completion)) % 2 == 0
    return Verdict(float(good), feedback="" if good else "the letters do not add up")


def by_likeness(example: Example, completion: str) -> Verdict:
    """How like the demonstration the answer is, from 0 to 1: imitation raises it step by step."""
    return Verdict(SequenceMatcher(None, example.demonstration or "", completion).ratio())


def always_wrong(example: Example, completion: str) -> Verdict:
    """Some better, some worse, none right."""
    return Verdict(0.5 * by_letters(example, completion).reward)


def red_7(example: Example, completion: str) -> float:
    """Only this answer succeeds, as written."""
    return float(completion == "red 7")


class Talkative:
    """Answers every turn, and judges the number of turns."""

    def __init__(self, example: Example) -> None:
        self.turns = 0

    def step(self, completion: str) -> list[Message]:
        self.turns += 1
        return [Message(role="user", content=f"go on {self.turns}")]

    def verdict(self) -> Verdict:
        return Verdict(min(1.0, self.turns / 2))


class Quoting:
    """Answers once, with quotes and a line break."""

    def __init__(self, example: Example) -> None:
        self.turns = 0

    def step(self, completion: str) -> list[Message] | None:
        self.turns += 1
        return [Message(role="tool", content='say "hi"\nnow')] if self.turns == 1 else None

    def verdict(self) -> Verdict:
        return Verdict(float(self.turns == 2))
