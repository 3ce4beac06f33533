"""Tasks of several turns: an environment answers what the model writes, until the episode is over. Torch-free."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from holdfast.data.user_values import call, own_copy, readable
from holdfast.errors import DataError

if TYPE_CHECKING:
    from holdfast.data.example import Example, Message, Verdict


class Environment(Protocol):
    """One episode.

    Its answers must depend only on its example and on the model's turns. Then the same seed gives the same episode,
    also after a resume.
    """

    def step(self, completion: str) -> "Sequence[Message] | None":
        """Take one turn of the model.

        Returns:
            The messages that answer it, e.g. the result of a tool; None if the episode is over. A content is text, or
            a list of parts of text.
        """

    def verdict(self) -> "Verdict":
        """Judge the episode. Called once: when it is over, or when a limit on turns or tokens is reached."""


_MUST = "an environment must answer every completion"

EnvironmentFactory = Callable[["Example"], Environment]
"""Makes the episode of an example. The prompt is the example's own messages."""


@dataclass(frozen=True, slots=True)
class Episodes:
    """How a task of several turns is run.

    Args:
        factory: called for every episode.
        max_turns: most turns of the model in an episode. After the last one the episode is judged as it is. It counts
            as truncated if the environment would have continued.
    """

    factory: EnvironmentFactory
    max_turns: int = 8

    def begin(self, example: "Example") -> "CheckedEnvironment":
        """A new episode of an example. The environment gets a copy of it."""
        where = f"environment of example {example.id!r}"
        return CheckedEnvironment(call(lambda: self.factory(example.own_copy()), where, _MUST), where)


class CheckedEnvironment:
    """A user's environment. Whatever it does wrong becomes a `DataError` of one line that names the example."""

    def __init__(self, environment: Environment, where: str) -> None:
        self._environment, self._where = environment, where

    def step(self, completion: str) -> "list[Message] | None":
        """See `Environment.step`. An empty list of messages also ends the episode. One message needs no list.

        Returns:
            Copies of the messages, with their content as one text. Parts of text are joined as they are.

        Raises:
            DataError: the environment raises, or returns something else than messages of text.
        """
        return call(lambda: self._messages(self._environment.step(completion)), self._where, _MUST)

    @property
    def environment(self) -> Environment:
        """The user's environment itself."""
        return self._environment

    @property
    def where(self) -> str:
        """Names it in messages."""
        return self._where

    def verdict(self) -> "Verdict":
        """See `Environment.verdict`."""
        from holdfast.data.example import as_verdict

        return as_verdict(call(lambda: self._environment.verdict(), self._where, _MUST), self._where)

    def _messages(self, answer: Any) -> "list[Message] | None":
        listed = _listed(answer)
        return None if listed is None else [self._message(each) for each in listed] or None

    def _message(self, given: Any) -> "Message":
        if not isinstance(given, Mapping) or not {"role", "content"} <= given.keys():
            is_message = isinstance(given, Mapping)
            what = f"a message with {_keys(given)}" if is_message else f"{type(given).__name__} instead of a message"
            fix = "return a list of {'role': ..., 'content': ...}, or None at the end"
            raise self._error(f"`step` returned {what}", fix)
        role = given["role"]
        if not isinstance(role, str) or not role.strip():
            raise self._error(f"`step` returned a message with the role {role!r}", "use the role tool or user")
        if role == "assistant":
            raise self._error("`step` returned a message with the role 'assistant'", "use the role tool or user")
        message = {key: own_copy(value) for key, value in given.items() if key != "content"}
        message = {key: readable(value) if isinstance(value, str) else value for key, value in message.items()}
        return cast("Message", message | {"content": self._content(given["content"])})

    def _content(self, content: Any) -> str:
        if isinstance(content, str):
            return readable(content)
        if not isinstance(content, list | tuple):
            what = "None" if content is None else f"a {type(content).__name__}"
            raise self._error(f"`step` returned a message whose content is {what}", "give text; '' is an empty answer")
        return "".join(self._part(part) for part in content)

    def _part(self, part: Any) -> str:
        """The text of a part of a content, in OpenAI's form."""
        if isinstance(part, str):
            return readable(part)
        text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else None
        if isinstance(text, str):
            return readable(text)
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        raise self._error(f"`step` returned a part of a content that is no text: {kind!r}", "give parts of text only")

    def _error(self, what: str, fix: str) -> DataError:
        return DataError(what, where=self._where, fix=fix)


def _listed(answer: Any) -> "list[Any] | None":
    """What `step` returned as a list: generators are run, and one message is a list of it."""
    if answer is None:
        return None
    if isinstance(answer, str | bytes | Mapping) or not isinstance(answer, Iterable):
        return [answer]
    return list(answer)


def _keys(message: Mapping[Any, Any]) -> str:
    return f"the keys {', '.join(sorted(map(str, message)))}" if message else "no keys"
