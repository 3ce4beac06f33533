"""Examples, messages, and verdicts on answers."""

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

from holdfast.errors import DataError


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it."""

    role: str
    content: str
    reasoning_content: NotRequired[str]
    """An assistant's thoughts before its answer, if they are not in `content`."""
    tool_calls: NotRequired[Sequence[Mapping[str, Any]]]
    """An assistant's calls of tools, in OpenAI's form. A call's `arguments` are a mapping."""
    tool_call_id: NotRequired[str]
    """In a tool's turn: the call that it answers."""
    name: NotRequired[str]
    """Who speaks, e.g. the tool of a tool's turn."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question and what is known about its answer.

    The student sees only `messages`. The verifier alone sees `answer`. The other fields are privileges: information
    that a recipe may show to the teacher, or train on.
    """

    id: str
    messages: tuple[Message, ...]
    demonstration: str | None = None
    """A response to imitate (TRL's `completion`). Thoughts come first, as `<think>\n…\n</think>\n\n`."""
    privileged_context: str | None = None
    """Text that only the teacher sees. If it is absent, the teacher sees the demonstration or the solution instead."""
    solution: tuple[str, ...] | None = None
    """A worked solution in steps. The last step states the answer. A recipe may show only a part of it."""
    plan: str | None = None
    """An outline of how to answer, without the answer."""
    actions: tuple[str, ...] | None = None
    """The actions of somebody who succeeded, without thoughts. A recipe may show only the first of them."""
    translation: tuple[Message, ...] | None = None
    """The same conversation in a language in which the model is safer."""
    tools: tuple[Mapping[str, Any], ...] | None = None
    """JSON schemas of the tools that the chat template shows the model."""
    rendered_prompt: str | None = None
    """The prompt as a chat template has rendered it already. The model sees this text. `messages` is one user turn of
    the same text."""
    demonstration_message: Message | None = None
    """The demonstration as an assistant's turn, if it is more than `demonstration`, its text: it has `tool_calls`."""
    trained_turns: tuple[int, ...] = ()
    """Indices of the assistant's turns in `messages` that are demonstrations too, besides the last turn. Recipes that
    train on demonstrations train on them."""
    answer: Any = None
    """What the verifier compares a completion with. It is never part of a prompt."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def privileges(self) -> frozenset[str]:
        """Names of the privileges that this example has."""
        names = set()
        if self.demonstration is not None:
            names.add("demonstration")
        if self.plan is not None:
            names.add("plan")
        if self.solution is not None:
            names.add("solution")
        if self.actions is not None:
            names.add("actions")
        if self.translation is not None:
            names.add("translation")
        if any(each is not None for each in (self.privileged_context, self.demonstration, self.solution)):
            names.add("privileged_context")
        return frozenset(names)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verifier's result for one completion.

    Args:
        reward: from 0 (useless) to 1 (right).
        feedback: what is wrong with the completion, as an environment would report it. It must not reveal the answer,
            because recipes show it to the teacher.
        answer: the answer that the verifier read from the completion; None if it contains none.
        format_ok: whether the completion has the requested format.

    Raises:
        DataError: the reward is not a number from 0 to 1.
    """

    reward: float
    feedback: str = ""
    answer: str | None = None
    format_ok: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.reward, int | float) or math.isnan(self.reward) or not 0.0 <= self.reward <= 1.0:
            raise DataError(f"a verifier returned the reward {self.reward!r}", fix="return a number from 0 to 1")


def as_verdict(result: Any, where: str) -> Verdict:
    """A user function's result as a verdict. A plain number is taken as the reward.

    Args:
        result: what the function returned.
        where: names the function in error messages.

    Raises:
        DataError: the result is neither a verdict nor a number from 0 to 1.
    """
    if isinstance(result, numbers.Real) or hasattr(result, "item"):  # a number, also one of NumPy or torch
        result = Verdict(float(result))
    if not isinstance(result, Verdict):
        raise DataError(
            f"it returned {type(result).__name__}", where=where, fix="return holdfast.Verdict or a number from 0 to 1"
        )
    return result


def unjudged(example: Example, completion: str) -> Verdict:
    """The verifier of a suite with an environment. It always fails, because the environment judges whole episodes."""
    raise DataError("a single answer cannot be judged: the environment judges whole episodes")
