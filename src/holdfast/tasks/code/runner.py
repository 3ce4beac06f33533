"""Runs a program that a model wrote against its tests.

The program runs in a sandbox of its own. What it has to return is known only outside: a test's expected output is
compared here, and assertions run in another sandbox, which the program cannot reach (see `sandbox.inside.tests`). So a
program that takes over everything in its sandbox can still only give results.
"""

import base64
import builtins
import json
import re
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from holdfast.sandbox.containers import IMAGE
from holdfast.sandbox.conversation import Conversation, ProgramEndedError, ProgramLateError, parsed
from holdfast.sandbox.limits import MIB, Limits
from holdfast.sandbox.sandbox import converse, sandbox
from holdfast.sandbox.seccomp import no_new_process
from holdfast.tasks.code.tests import Ending, ProgramError, ProgramOutcome, ProgramTest, ProgramTests

LONGEST_MESSAGE = 32 * MIB
READY_SECONDS = 30.0
"""Time in which a program must be compiled, or a test must use it for the first time, on a busy machine."""
END_SECONDS = 5.0
"""Time in which a program that has been tested must end."""
WALL_PER_CPU = 3.0
"""A program may wait this many times as long as it may compute, because other programs compute too."""

_EXCEPTIONS = frozenset(
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
)


@dataclass(frozen=True)
class ProgramRunner:
    """Runs programs.

    Args:
        kind: of the sandbox.
        image: of containers.
        seconds: CPU time of one test.
        memory: of the program, in bytes.
        total_seconds: for all tests of a program. Tests for which no time is left count as failed.
        stops_at_failure: leave out the tests after the first that fails.
    """

    kind: str = "bubblewrap"
    image: str = IMAGE
    seconds: float = 6.0
    memory: int = 1024 * MIB
    total_seconds: float = 60.0
    stops_at_failure: bool = True

    def run(self, program: str, given: ProgramTests) -> list[ProgramOutcome]:
        """Run a program against its tests, in their order. One outcome for each test.

        Raises:
            ConfigError: there can be no such sandbox on this machine.
            DataError: there can, and yet one does not start.
        """
        outcomes: list[ProgramOutcome] = []
        with _Run(self, program, given) as run:
            for test in given.tests:
                failed = self.stops_at_failure and any(each.ending != "passed" for each in outcomes)
                if failed or run.seconds_left <= 0 or run.compile_error is not None:
                    outcomes.append(ProgramOutcome(test, "not_run"))
                else:
                    outcomes.append(run.outcome(test))
        return outcomes

    def limits(self, given: ProgramTests) -> Limits:
        """Limits of the program's process, with room for the longest input."""
        longest = max((len(test.input) for test in given.tests), default=0)
        room = max(16 * MIB, 5 * longest)
        return Limits(
            cpu_seconds=int(self.total_seconds) + 60,
            memory=self.memory,
            file_bytes=room,
            folder_bytes=4 * room,
        )


class _Run:
    """One program in its sandbox, and the tests in theirs. Either is started when it is needed, again if it ended."""

    def __init__(self, runner: ProgramRunner, program: str, given: ProgramTests) -> None:
        self.runner, self.program, self.given = runner, program, given
        self.compile_error: ProgramError | None = None
        """Set when it is known that the program is no valid code."""
        self._answer: Conversation | None = None
        self._tests: Conversation | None = None
        self._deadline = time.monotonic() + runner.total_seconds

    def __enter__(self) -> "_Run":
        return self

    def __exit__(self, *_: Any) -> None:
        self._end()

    @property
    def seconds_left(self) -> float:
        """Of the time for all tests."""
        return self._deadline - time.monotonic()

    def outcome(self, test: ProgramTest) -> ProgramOutcome:
        """Run one test."""
        wall = min(self.runner.seconds * WALL_PER_CPU, max(0.1, self.seconds_left))
        try:
            if not self._has_answer():
                return _asked(test, "raised", self.compile_error)
            return self._printed(test, wall) if test.kind == "stdio" else self._returned(test, wall)
        except ProgramLateError:
            self._end()
            return _asked(test, "time")
        except ProgramEndedError as error:
            self._end()
            return _asked(test, "died", detail=error.why)

    def _has_answer(self) -> bool:
        """Start the program's process. False if the program is no valid code."""
        if self._answer is not None:
            return True
        runner = self.runner
        place = sandbox(runner.kind, runner.limits(self.given), image=runner.image)
        self._answer = converse(place, "answer", LONGEST_MESSAGE)
        order = {"program": self.program, "prelude": self.given.has_prelude}
        order["filter"] = base64.b64encode(no_new_process()).decode()
        reply = self._answer.ask(order, READY_SECONDS)
        if isinstance(reply, dict) and "error" in reply:
            self.compile_error = self._error(reply["error"])
            return False
        return True

    def _printed(self, test: ProgramTest, wall: float) -> ProgramOutcome:
        assert self._answer is not None
        most = max(MIB, 2 * len(test.output))
        order = {"stdin": test.input, "seconds": self.runner.seconds, "wall": wall, "most": most}
        reply = self._answer.ask({"run": order}, wall + 5.0)
        if not isinstance(reply, dict):
            raise ProgramEndedError("it said something that is no message")
        actual, why, code = _output(reply.get("out")), reply.get("why"), reply.get("code")
        found = ProgramOutcome(test, "passed", input=test.input, expected=test.output, actual=actual)
        if why in ("time", "output"):
            return replace(found, ending=why)
        if isinstance(reply.get("error"), dict):
            return replace(found, ending="raised", error=self._error(reply["error"]))
        if code != 0:
            return replace(found, ending="died", detail=_how(code))
        return found if same_output(actual, test.output) else replace(found, ending="wrong")

    def _returned(self, test: ProgramTest, wall: float) -> ProgramOutcome:
        assert self._answer is not None
        deadline = time.monotonic() + wall
        names = self._answer.ask_raw(json.dumps({"serve": {"seconds": self.runner.seconds}}).encode(), wall)
        if not names.startswith(b'{"names"'):
            reply = parsed(names)
            if isinstance(reply, dict) and "error" in reply:
                self._end_serving()
                return _asked(test, "raised", self._error(reply["error"]))
            return _ended(test, reply.get("gone") if isinstance(reply, dict) else None)
        if self._tests is None:
            limits = Limits(cpu_seconds=int(self.runner.total_seconds) + 60, memory=self.runner.memory)
            begun = time.monotonic()
            self._tests = converse(sandbox(self.runner.kind, limits, image=self.runner.image), "tests", LONGEST_MESSAGE)
            deadline += time.monotonic() - begun  # the program waits meanwhile
        order = json.dumps({"setup": self.given.setup, "test": self._code(test)}).encode()
        # As a message of its own: within the order, it could end the order and begin another.
        said = self._tests.ask_raw(order + b"\n" + names, READY_SECONDS)
        gone = None
        while not said.startswith(b'{"verdict"'):
            reply_line = self._answer.ask_raw(said, max(0.0, deadline - time.monotonic()))
            gone = _gone(reply_line)
            said = self._tests.ask_raw(reply_line, max(0.0, deadline - time.monotonic()))
        if gone is None:
            self._end_serving()
        return self._judged(test, parsed(said)["verdict"], gone)

    def _end_serving(self) -> None:
        """Have the program's process end, so that the next test has a new one. The verdict stands already."""
        assert self._answer is not None
        try:
            self._answer.ask({"op": "end"}, END_SECONDS)
        except (ProgramLateError, ProgramEndedError):
            self._end()

    def _code(self, test: ProgramTest) -> str:
        """A test as code that uses the program's names."""
        if test.kind == "assert":
            return test.code
        name = self.given.function
        given = [json.loads(line) for line in test.input.splitlines() if line.strip()]
        has_class = re.search(r"^class Solution\b", self.program, re.M) is not None
        target = f"Solution().{name}" if has_class else name
        return f"__close__({target}, {given!r}, {json.loads(test.output)!r}, {name!r})"

    def _judged(self, test: ProgramTest, verdict: dict[str, Any], gone: Any) -> ProgramOutcome:
        if verdict["passed"]:
            return ProgramOutcome(test, "passed")
        if "broken" in verdict:
            return _asked(test, "broken", detail=verdict["broken"])
        if "gone" in verdict:
            return _ended(test, gone)
        if "shown" in verdict:
            return ProgramOutcome(test, "wrong", **verdict["shown"])
        return _asked(test, "raised", self._error(verdict["error"]))

    def _error(self, said: Any) -> ProgramError:
        """What a program's process says about an exception, checked: the program may have said it."""
        said = said if isinstance(said, dict) else {}
        types, line = said.get("types"), said.get("line")
        name = str(said.get("type") or (types[0] if isinstance(types, list) and types else "Exception"))
        known = type(line) is int and 1 <= line <= len(self.program.splitlines())
        return ProgramError(name[:100], name in _EXCEPTIONS, str(said.get("message", "")), line if known else None)

    def _end(self) -> None:
        with ExitStack() as stack:
            for each in (self._answer, self._tests):
                if each is not None:
                    stack.callback(each.close)
        self._answer = self._tests = None


def _output(said: Any) -> str:
    """What a program printed, as its process sends it."""
    try:
        return base64.b64decode(said, validate=True).decode(errors="replace")
    except (ValueError, TypeError):
        raise ProgramEndedError("it said something that is no message") from None


def same_output(actual: str, expected: str) -> bool:
    """Whether an output is the expected one: the same lines, but for spaces at their ends and numbers as written.

    As in LiveCodeBench, lines of numbers are equal if the numbers are.
    """
    lines, wanted = (_lines(text) for text in (actual, expected))
    return len(lines) == len(wanted) and all(map(_same_line, lines, wanted))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


def _same_line(line: str, wanted: str) -> bool:
    if line == wanted:
        return True
    try:
        numbers, others = ([Decimal(word) for word in text.split()] for text in (line, wanted))
        return numbers == others
    except InvalidOperation:  # a word is no number, or the signaling NaN, which cannot even be compared
        return False


def _gone(line: bytes) -> Any:
    """The status of a program's process that has ended; None if it has not."""
    if not line.startswith(b'{"gone"'):
        return None
    found = parsed(line)
    return found.get("gone") if isinstance(found, dict) else None


def _ended(test: ProgramTest, code: Any) -> ProgramOutcome:
    """The program's process ended by itself: because it computed too long, or otherwise."""
    late = code in (-signal.SIGKILL, -signal.SIGXCPU)
    return _asked(test, "time" if late else "died", detail=_how(code))


def _how(code: Any) -> str:
    if not isinstance(code, int):
        return "it ended"
    return f"a signal ended it ({-code})" if code < 0 else f"it ended with code {code}"


def _asked(test: ProgramTest, ending: Ending, error: ProgramError | None = None, detail: str = "") -> ProgramOutcome:
    """An outcome that shows the test as it is written."""
    return ProgramOutcome(test, ending, error, input=test.code or test.input, expected=test.output, detail=detail)
