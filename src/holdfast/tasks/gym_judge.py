"""Scores of reasoning-gym's generators, computed in a sandbox: some generators evaluate answers as Python code."""

import base64
import contextlib
import functools
import pickle
import threading
from collections.abc import Mapping
from typing import Any

from holdfast.errors import DataError
from holdfast.sandbox.conversation import Conversation, ProgramEndedError, ProgramLateError
from holdfast.sandbox.limits import MIB, Limits
from holdfast.sandbox.sandbox import converse, sandbox
from holdfast.sandbox.seccomp import no_new_process

SECONDS = 5
"""CPU time of one answer. An answer such as 9**9**9 takes any time, and gets 0."""
WALL_SECONDS = 20.0
START_SECONDS = 180.0
"""Time in which the process must have loaded reasoning-gym, on a busy machine."""

LIMITS = Limits(cpu_seconds=10**6, memory=4096 * MIB, processes=64)


class GymJudge:
    """A process in a sandbox that scores answers. It starts with the first answer, and again if it ends.

    Args:
        kind: of the sandbox.
        image: of containers. It must have reasoning-gym.
    """

    def __init__(self, kind: str, image: str) -> None:
        self._sandbox = sandbox(kind, LIMITS, image=image)
        self._lock = threading.Lock()
        self._process: Conversation | None = None

    def score(self, generator: str, settings: Mapping[str, Any], answer: str, item: Mapping[str, Any]) -> float:
        """The score that a generator gives an answer. 0 if it takes too long or ends the process.

        Args:
            generator: its name.
            settings: all its settings.
            answer: what the model wrote.
            item: the question, as the generator made it.

        Raises:
            ConfigError: there can be no such sandbox on this machine.
            DataError: the generator cannot be used in the sandbox.
        """
        made = _packed((generator, dict(settings)))
        order: dict[str, Any] = {"generator": made, "pickled": made, "answer": answer, "item": _packed(dict(item))}
        order |= {"seconds": SECONDS, "wall": WALL_SECONDS, "filter": base64.b64encode(no_new_process()).decode()}
        with self._lock:
            is_first = self._process is None
            if self._process is None:
                self._process = converse(self._sandbox, "gym", MIB)
            try:
                reply = self._process.ask(order, START_SECONDS if is_first else START_SECONDS + WALL_SECONDS)
            except BaseException as error:  # also a signal that ends the run: an answer is still on its way
                self.close()
                if not isinstance(error, ProgramEndedError | ProgramLateError):
                    raise
                if is_first:
                    raise _unusable(generator, str(error) or "it takes too long to start") from error
                return 0.0
        if "value" not in reply:
            raise _unusable(generator, str(reply.get("error")))
        return float(reply["value"])

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.close()
            self._process = None


@functools.cache
def gym_judge(kind: str, image: str) -> GymJudge:
    """The process of a kind of sandbox. All tasks and suites of one kind share it."""
    return GymJudge(kind, image)


def _packed(value: Any) -> str:
    """A value of this process's own for the sandbox. Nothing is read back this way."""
    return base64.b64encode(pickle.dumps(value)).decode()


def _unusable(generator: str, why: str) -> DataError:
    return DataError(
        f"reasoning-gym cannot score answers in a sandbox: {why}",
        where=f"generator {generator!r}",
        fix="install reasoning-gym into the environment of holdfast, or use another `sandbox`",
    )
