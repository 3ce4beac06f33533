"""Tasks of several turns: an environment answers what the model writes, until the episode is over. Torch-free."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

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
            The messages that answer it, e.g. the result of a tool; None if the episode is over.
        """

    def verdict(self) -> "Verdict":
        """Judge the episode. Called once: when it is over, or when a limit on turns or tokens is reached."""


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
        """A new episode of an example."""
        where = f"environment of example {example.id!r}"
        return CheckedEnvironment(_call(lambda: self.factory(example), where), where)


class CheckedEnvironment:
    """A user's environment. Whatever it does wrong becomes a `DataError` of one line that names the example."""

    def __init__(self, environment: Environment, where: str) -> None:
        self._environment, self._where = environment, where

    def step(self, completion: str) -> "list[Message] | None":
        """See `Environment.step`. An empty list of messages also ends the episode."""
        answer = _call(lambda: self._environment.step(completion), self._where)
        if answer is None:
            return None
        messages: list[Any] = list(answer) if not isinstance(answer, str | bytes) else [answer]
        for message in messages:
            if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
                raise DataError(
                    f"`step` returned {type(message).__name__} instead of a message",
                    where=self._where,
                    fix="return a list of {'role': ..., 'content': ...}, or None at the end",
                )
            if message["role"] == "assistant":
                raise DataError(
                    "`step` returned a message with the role 'assistant'",
                    where=self._where,
                    fix="use the role tool or user",
                )
        return messages or None

    def verdict(self) -> "Verdict":
        """See `Environment.verdict`."""
        from holdfast.data.example import as_verdict

        return as_verdict(_call(self._environment.verdict, self._where), self._where)


def _call(user_code: Callable[[], Any], where: str) -> Any:
    try:
        return user_code()
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"it raised {type(error).__name__}: {error}",
            where=where,
            fix="an environment must answer every completion",
        ) from error
