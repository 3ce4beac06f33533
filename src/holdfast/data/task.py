"""What is learned: examples, the verdict on an answer, tasks, and the sets that are evaluated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from holdfast.data.environment import Episodes
from holdfast.data.example import Example, Verdict, as_verdict
from holdfast.errors import DataError

Verify = Callable[[Example, str], Verdict]

SuiteKind = Literal["retention", "ood"]


@dataclass(frozen=True)
class Suite:
    """A held-out set that no stage trains on: an old skill (`retention`) or a new surface form of a task (`ood`)."""

    name: str
    kind: SuiteKind
    test: Sequence[Example]
    verifier: Verify
    description: str = ""
    episodes: Episodes | None = None
    """Of a suite of several turns: its environment, which judges in the verifier's place."""

    def verify(self, example: Example, completion: str) -> Verdict:
        return checked(self.verifier, self.name, example, completion)


@dataclass(frozen=True)
class Task:
    """One stage of a stream: train and test examples and how an answer is judged.

    `verifier` may be None for tasks with demonstrations only; recipes that learn from rewards then refuse it. A task of
    several turns has an environment in its place.
    """

    name: str
    train: Sequence[Example]
    test: Sequence[Example]
    verifier: Verify | None = None
    description: str = ""
    episodes: Episodes | None = None

    def verify(self, example: Example, completion: str) -> Verdict:
        if self.verifier is None:
            raise DataError(f"task {self.name!r} has no verifier", fix="name one with verifier: module:function")
        return checked(self.verifier, self.name, example, completion)

    def provides(self) -> frozenset[str]:
        """Privileges that every training example carries, and 'reward' where a verifier or an environment judges.

        Over several turns actions are a demonstration: each is a turn of the model, a demonstration's text the last.
        """
        have: set[str] = set.intersection(*(set(e.privileges()) for e in self.train)) if self.train else set()
        if self.verifier is not None or self.episodes is not None:
            have.add("reward")
        if self.episodes is not None and "actions" in have:
            have.add("demonstration")  # to say, turn by turn
        return frozenset(have)


def all_sets(tasks: Sequence[Task], suites: Sequence[Suite]) -> list[Task | Suite]:
    """Everything that is evaluated, tasks first."""
    return [*tasks, *suites]


def checked(verifier: Verify, name: str, example: Example, completion: str) -> Verdict:
    """Run a verifier, turning whatever goes wrong in it into one line that names the place.

    A plain number in place of a `Verdict` is taken as the reward, as TRL's reward functions return it.
    """
    where = f"verifier of {name!r}, example {example.id!r}"
    try:
        return as_verdict(verifier(example, completion), where)
    except DataError as error:
        raise DataError(error.what, where=where, fix=error.fix) from error
    except Exception as error:
        raise DataError(
            f"it raised {type(error).__name__}: {error}", where=where, fix="a verifier must judge every completion"
        ) from error
