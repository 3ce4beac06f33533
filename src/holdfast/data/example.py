"""Examples, messages, and verdicts on answers."""

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, NotRequired, Self, TypedDict

from holdfast.data.user_values import number, own_copy, short_text
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
    gen_prefix: str | None = None
    """The beginning of a right answer. Evaluation forces it on the model and measures how likely `target` is after it:
    what the model knows, whatever its way of answering (lm-eval's `gen_prefix`)."""
    target: str | None = None
    """What has to come after `gen_prefix`: the part of a right answer that has to be known."""
    answer: Any = None
    """What the verifier compares a completion with. It is never part of a prompt."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def own_copy(self) -> Self:
        """A copy for a user's function: nothing that it does to the copy changes this example."""
        mutable = ("messages", "translation", "tools", "demonstration_message", "answer", "metadata")
        return replace(self, **{name: own_copy(getattr(self, name)) for name in mutable})

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


FailureKind = Literal["timeout", "error"]
"""Why an answer was not judged: its judgment took longer than `verifier_timeout`, or failed in another way."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verifier's result for one completion. Every field is checked when it is made.

    Args:
        reward: from 0 (useless) to 1 (right). Any real number: also NumPy's, a tensor of one entry, a Decimal, a bool.
        feedback: what is wrong with the completion, as an environment would report it. It must not reveal the answer,
            because recipes show it to the teacher. None means "". It is cut after 100,000 characters.
        answer: the answer that the verifier read from the completion; None if it contains none. A number becomes text.
            It is cut like the feedback.
        format_ok: whether the completion has the requested format. Also 0, 1 or NumPy's bool.
        failure: why there was no judgment, so that the reward is 0; "" where there was one. Verifiers leave it out.
        reason: the failure in words.

    Lone surrogates in a text become U+FFFD: they may come from what a model wrote, and cannot be written as UTF-8.

    Raises:
        DataError: the reward is not a number from 0 to 1, or another field has the wrong type.
    """

    reward: float
    feedback: str = ""
    answer: str | None = None
    format_ok: bool = True
    failure: FailureKind | Literal[""] = ""
    reason: str = ""

    def __post_init__(self) -> None:
        checked = {
            "reward": _reward(self.reward),
            "feedback": _feedback(self.feedback),
            "answer": _answer(self.answer),
            "format_ok": _format_ok(self.format_ok),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def _reward(given: Any) -> float:
    value = number(given)
    if not isinstance(value, numbers.Real | Decimal):
        raise DataError(f"the reward is {_shown(given)}", fix="return a number from 0 to 1")
    try:
        reward = float(value)
    except (ValueError, OverflowError):  # a signaling NaN, or an integer beyond all floats
        reward = math.nan
    if not 0.0 <= reward <= 1.0:
        raise DataError(f"the reward is {_shown(given)}", fix="return a number from 0 to 1")
    return reward


def _feedback(given: Any) -> str:
    if given is None:
        return ""
    if not isinstance(given, str):
        raise DataError(f"the feedback is {_shown(given)}, not text", fix='return text; "" is no feedback')
    return short_text(given)


def _answer(given: Any) -> str | None:
    value = number(given)
    if isinstance(value, numbers.Real | Decimal):
        try:
            value = str(value)
        except ValueError:
            raise DataError(f"the answer is {_shown(given)}", fix="return text, or a shorter number") from None
    if value is not None and not isinstance(value, str):
        raise DataError(f"the answer is {_shown(given)}, not text", fix="return text, a number, or None for no answer")
    return None if value is None else short_text(value)


def _format_ok(given: Any) -> bool:
    value = number(given)
    # Not the truth of any value: None from a search that found nothing would be one thing, from a branch without a
    # result another.
    if not isinstance(value, numbers.Real) or value not in (0, 1):
        fix = "return True or False, e.g. bool(match)"
        raise DataError(f"format_ok is {_shown(given)}, not true or false", fix=fix)
    return bool(value)


def _shown(value: Any) -> str:
    """A value in a message: numbers and None themselves, anything else by its type."""
    if value is None or isinstance(number(value), numbers.Real | Decimal):
        try:
            text = repr(value)
        except ValueError:  # Python writes no integer of more than some thousand digits
            return f"a {type(value).__name__} of too many digits to write"
        return text if len(text) <= 40 else f"a {type(value).__name__} of {len(text)} digits"
    return f"a {type(value).__name__}"


def as_verdict(result: Any, where: str) -> Verdict:
    """A user function's result as a verdict. A plain number is taken as the reward.

    Args:
        result: what the function returned.
        where: names the function in error messages.

    Raises:
        DataError: the result is neither a verdict nor a number from 0 to 1.
    """
    if isinstance(result, Verdict):
        return result
    if isinstance(number(result), numbers.Real | Decimal):
        try:
            return Verdict(result)
        except DataError as error:
            raise DataError(error.what, where=where, fix=error.fix) from error
    fix = "return holdfast.Verdict or a number from 0 to 1"
    raise DataError(f"it returned {type(result).__name__}", where=where, fix=fix)


def unjudged(example: Example, completion: str) -> Verdict:
    """The verifier of a suite with an environment. It always fails, because the environment judges whole episodes."""
    raise DataError("a single answer cannot be judged: the environment judges whole episodes")
