"""Tasks of several turns: an environment answers what the model says, until the episode is over. Torch-free."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.errors import DataError

if TYPE_CHECKING:
    from holdfast.data.example import Example, Message, Verdict


class Environment(Protocol):
    """One episode. What it says depends on its example and on what it was told, on nothing else."""

    def step(self, completion: str) -> "Sequence[Message] | None":
        """Take in a turn of the model; the messages that answer it, such as a tool's, or None where all is over."""

    def verdict(self) -> "Verdict":
        """What the episode was worth; asked for once, when it is over or has run out of turns or tokens."""


EnvironmentFactory = Callable[["Example"], Environment]
"""Makes the episode of an example; its prompt is the example's own messages."""


@dataclass(frozen=True, slots=True)
class Episodes:
    """How a task of several turns is played.

    Args:
        factory: called for every episode anew.
        max_turns: turns of the model; after the last one the episode is judged as it stands, and counts as truncated
            where the environment would have gone on.
    """

    factory: EnvironmentFactory
    max_turns: int = 8

    def begin(self, example: "Example") -> "Watched":
        where = f"environment of example {example.id!r}"
        return Watched(_tried(lambda: self.factory(example), where), where)


class Watched:
    """An environment whose mistakes are one line that names the example."""

    def __init__(self, environment: Environment, where: str) -> None:
        self._environment, self._where = environment, where

    def step(self, completion: str) -> "list[Message] | None":
        found = _tried(lambda: self._environment.step(completion), self._where)
        if found is None:
            return None
        messages: list[Any] = list(found) if not isinstance(found, str | bytes) else [found]
        for message in messages:
            if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
                raise DataError(
                    f"step returned {type(message).__name__} where a message was expected",
                    where=self._where,
                    fix="return a list of {'role': ..., 'content': ...}, or None at the end",
                )
            if message["role"] == "assistant":
                raise DataError("step spoke for the assistant", where=self._where, fix="use the role tool or user")
        return messages or None

    def verdict(self) -> "Verdict":
        from holdfast.data.example import as_verdict

        return as_verdict(_tried(self._environment.verdict, self._where), self._where)


def _tried(call: Callable[[], Any], where: str) -> Any:
    try:
        return call()
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"it raised {type(error).__name__}: {error}",
            where=where,
            fix="an environment must answer every completion",
        ) from error
