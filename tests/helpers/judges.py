"""Verifiers whose verdicts a test can foresee, and an environment that always has something to say."""

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


class Talkative:
    """Answers every turn, and judges the number of turns."""

    def __init__(self, example: Example) -> None:
        self.turns = 0

    def step(self, completion: str) -> list[Message]:
        self.turns += 1
        return [Message(role="user", content=f"go on {self.turns}")]

    def verdict(self) -> Verdict:
        return Verdict(min(1.0, self.turns / 2))
