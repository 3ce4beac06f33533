"""What is learnt: examples, the verdict on an answer, tasks, and the sets that are evaluated."""

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from holdfast.errors import DataError
from holdfast.tasks.environment import Episodes


class Message(TypedDict):
    """One turn of a conversation, in the form that chat templates take."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to answer, and what privilege there is about it.

    `messages` is what the student sees; everything else is kept from it. `answer` is for the verifier alone.
    """

    id: str
    messages: tuple[Message, ...]
    demonstration: str | None = None
    """A response worth imitating (TRL's `completion`)."""
    privileged_context: str | None = None
    """What the teacher alone is shown; where it is absent the demonstration or the solution is shown in its place."""
    solution: tuple[str, ...] | None = None
    """A worked solution in steps, the last of which states the answer; of it a part can be shown."""
    plan: str | None = None
    """An outline of how to answer, without the answer."""
    actions: tuple[str, ...] | None = None
    """What somebody who succeeded did, action by action, without thoughts; of it a first part can be shown."""
    translation: tuple[Message, ...] | None = None
    """The same conversation in a language that the model is safer in."""
    answer: Any = None
    """What the verifier compares a completion with; never part of any prompt."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def privileges(self) -> frozenset[str]:
        """Names of the privileges that this example carries."""
        have = set()
        if self.demonstration is not None:
            have.add("demonstration")
        if self.plan is not None:
            have.add("plan")
        if self.solution is not None:
            have.add("solution")
        if self.actions is not None:
            have.add("actions")
        if self.translation is not None:
            have.add("translation")
        if any(each is not None for each in (self.privileged_context, self.demonstration, self.solution)):
            have.add("privileged_context")
        return frozenset(have)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says of one completion.

    Args:
        reward: between 0 (useless) and 1 (right).
        feedback: what an environment would say of a wrong answer; must never give the right one away.
        answer: the answer as the verifier read it from the completion, or None where it found none.
        format_ok: whether the completion has the form that was asked for.
    """

    reward: float
    feedback: str = ""
    answer: str | None = None
    format_ok: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.reward, int | float) or math.isnan(self.reward) or not 0.0 <= self.reward <= 1.0:
            raise DataError(f"a verifier gave the reward {self.reward!r}", mend="a reward is a number between 0 and 1")


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
            raise DataError(f"task {self.name!r} has no verifier", mend="name one with verifier: module:function")
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
        raise DataError(error.what, where=where, mend=error.mend) from error
    except Exception as error:
        raise DataError(
            f"it raised {type(error).__name__}: {error}", where=where, mend="a verifier must judge every completion"
        ) from error


def as_verdict(found: Any, where: str) -> Verdict:
    """What a user's function returned, as a verdict; a plain number is the reward.

    Raises:
        DataError: it is neither, or no reward.
    """
    if isinstance(found, numbers.Real) or hasattr(found, "item"):  # a number, also one of NumPy or torch
        found = Verdict(float(found))
    if not isinstance(found, Verdict):
        raise DataError(
            f"it returned {type(found).__name__}", where=where, mend="return holdfast.Verdict or a number from 0 to 1"
        )
    return found
