"""Tasks, which stages train on, and suites, which are only evaluated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from holdfast.data.environment import Episodes
from holdfast.data.example import Example, Verdict, as_verdict
from holdfast.errors import DataError

Verify = Callable[[Example, str], Verdict]
"""A verifier: judges a completion of an example."""

SuiteKind = Literal["retention", "ood"]


@dataclass(frozen=True)
class Suite:
    """A held-out set that no stage trains on: an old skill (`retention`) or a task in another form (`ood`)."""

    name: str
    kind: SuiteKind
    test: Sequence[Example]
    verifier: Verify
    description: str = ""
    episodes: Episodes | None = None
    """The environment of a suite of several turns. It judges instead of the verifier."""
    judged_by: str = ""
    """What judges an answer, in words; empty if nothing does."""

    def verify(self, example: Example, completion: str) -> Verdict:
        return run_verifier(self.verifier, self.name, example, completion)


@dataclass(frozen=True)
class Task:
    """One stage of a stream: training and test examples, and how an answer is judged.

    `verifier` may be None for a task that has only demonstrations. Recipes that learn from rewards refuse such a task.
    A task of several turns has `episodes` instead of a verifier.
    """

    name: str
    train: Sequence[Example]
    test: Sequence[Example]
    verifier: Verify | None = None
    description: str = ""
    episodes: Episodes | None = None
    unread_columns: tuple[str, ...] = ()
    """Columns of text in the training data that no field is read from."""
    dropped_records: int = 0
    """Records of the training data that were left out because they are faulty."""
    judged_by: str = ""
    """What judges an answer, in words; empty if nothing does."""

    def verify(self, example: Example, completion: str) -> Verdict:
        if self.verifier is None:
            raise DataError(f"task {self.name!r} has no verifier", fix="name one with verifier: module:function")
        return run_verifier(self.verifier, self.name, example, completion)

    def provides(self) -> frozenset[str]:
        """What recipes can use of this task: privileges that every training example has, and 'reward' if it is judged.

        In a task of several turns, actions are a demonstration: each is a turn of the model. A demonstration's text is
        then the last turn.
        """
        names: set[str] = set.intersection(*(set(e.privileges()) for e in self.train)) if self.train else set()
        if self.verifier is not None or self.episodes is not None:
            names.add("reward")
        if self.episodes is not None and "actions" in names:
            names.add("demonstration")
        return frozenset(names)


def all_sets(tasks: Sequence[Task], suites: Sequence[Suite]) -> list[Task | Suite]:
    """All sets that are evaluated, tasks first."""
    return [*tasks, *suites]


def run_verifier(verifier: Verify, name: str, example: Example, completion: str) -> Verdict:
    """Run a verifier. A plain number is taken as the reward, as TRL's reward functions return it.

    Args:
        verifier: the user's function.
        name: of the task or suite, for error messages.
        example: what is answered.
        completion: what the model wrote.

    Raises:
        DataError: the verifier raises, or returns something that is no verdict; in one line that names the example.
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
