"""Functions of users that are known by their name, `module:function`: only judging processes import them."""

import itertools
from dataclasses import dataclass, field
from typing import Any

from holdfast import stop
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.task import VERIFIER_TIMEOUT
from holdfast.errors import ConfigError, DataError
from holdfast.judging.pool import Job, Outcome, current_pool
from holdfast.judging.sent_example import as_message

_episodes = itertools.count()


@dataclass(frozen=True)
class NamedVerifier:
    """A verifier that judging processes call.

    Args:
        function: `module:function`.
        timeout: seconds that it may take for one answer.
    """

    function: str
    timeout: float = VERIFIER_TIMEOUT

    @property
    def where(self) -> str:
        """Names it in error messages."""
        return f"verifier {self.function!r}"

    def load(self) -> None:
        """Import it in a judging process.

        Raises:
            ConfigError: it cannot be imported.
        """
        _load(self.function, self.where, "(example, completion)")

    def job(self, name: str, example: Example, completion: str, reasoning: str) -> Job:
        """The judgment of one answer.

        Args:
            name: of the task or suite, for error messages.
            example: what is answered.
            completion: the answer without the thoughts before it.
            reasoning: these thoughts.
        """
        request = {
            "do": "judge",
            "name": name,
            "example": as_message(example),
            "completion": completion,
            "reasoning": reasoning,
        }
        where = f"verifier of {name!r}, example {example.id!r}"
        return Job(self.function, self.where, "(example, completion)", request, self.timeout, where)

    def __call__(self, example: Example, completion: str, reasoning: str = "") -> Verdict:
        """Judge one answer. Many are judged faster together, by `holdfast.judging.answers`.

        Raises:
            DataError: it raises, takes too long, or returns something that is no verdict.
        """
        job = self.job(self.function, example, completion, reasoning)
        (outcome,) = current_pool().run([job], poll=stop.poll)
        return outcome.verdict()


@dataclass(frozen=True)
class NamedEnvironment:
    """A factory of environments that live in judging processes. Arguments are those of `NamedVerifier`."""

    function: str
    timeout: float = VERIFIER_TIMEOUT

    @property
    def where(self) -> str:
        """Names it in error messages."""
        return f"environment_factory {self.function!r}"

    def load(self) -> None:
        """See `NamedVerifier.load`."""
        _load(self.function, self.where, "(example)")

    def __call__(self, example: Example) -> "DistantEnvironment":
        return DistantEnvironment(self, example)


@dataclass
class DistantEnvironment:
    """An episode whose environment lives in a judging process.

    The process may end in the middle of the episode. Another one then plays the turns so far again.
    """

    factory: NamedEnvironment
    example: Example
    turns: list[str] = field(default_factory=list)
    key: int = field(default_factory=lambda: next(_episodes))

    def job(self, *, completion: str | None = None, judged: bool = False) -> Job:
        """A turn of the model, or the judgment at the end. The environment is made with the first of them."""
        if completion is not None:
            self.turns.append(completion)
        request: dict[str, Any] = {
            "do": "play",
            "example": as_message(self.example),
            "episode": self.key,
            "turns": list(self.turns),
            "judged": judged,
        }
        where, factory = f"environment of example {self.example.id!r}", self.factory
        return Job(factory.function, factory.where, "(example)", request, factory.timeout, where, self.key)

    def step(self, completion: str) -> list[Message] | None:
        """See `holdfast.data.environment.Environment.step`."""
        messages: list[Message] | None = self._run(self.job(completion=completion)).value()["messages"]
        return messages

    def verdict(self) -> Verdict:
        """See `holdfast.data.environment.Environment.verdict`."""
        return self._run(self.job(judged=True)).verdict()

    def _run(self, job: Job) -> Outcome:
        (outcome,) = current_pool().run([job], poll=stop.poll)
        return outcome


def _load(function: str, where: str, arguments: str) -> None:
    if function.partition(":")[0] == "__main__":
        fix = "put it into a module of its own, or set `in_process: true`"
        raise ConfigError("is a function of the program itself, which no other process has", where=where, fix=fix)
    try:
        current_pool().run([Job(function, where, arguments, None, 0.0, where)], poll=stop.poll)
    except DataError as error:
        raise ConfigError(error.what, where=error.where, fix=error.fix) from error
