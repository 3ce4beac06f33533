"""Examples, messages, and the verdict on an answer."""

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from holdfast.errors import DataError


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
            raise DataError(f"a verifier gave the reward {self.reward!r}", fix="a reward is a number between 0 and 1")


def as_verdict(found: Any, where: str) -> Verdict:
    """What a user's function returned, as a verdict; a plain number is the reward.

    Raises:
        DataError: it is neither, or no reward.
    """
    if isinstance(found, numbers.Real) or hasattr(found, "item"):  # a number, also one of NumPy or torch
        found = Verdict(float(found))
    if not isinstance(found, Verdict):
        raise DataError(
            f"it returned {type(found).__name__}", where=where, fix="return holdfast.Verdict or a number from 0 to 1"
        )
    return found


def unjudged(example: Example, completion: str) -> Verdict:
    """In the place of a verifier where an environment judges whole episodes."""
    raise DataError("an answer by itself cannot be judged: its environment judges an episode")
