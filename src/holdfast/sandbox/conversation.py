"""Talk with a program in a sandbox: one JSON value a line in both directions, with a time limit for each.

The program's end of the channel is its standard input and output, because every kind of sandbox has these. Programs of
`inside` take them away from what they run. What comes back is a claim of a program that may be hostile: it is data,
read up to a size, and whoever reads it checks it.
"""

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import IO, Any

from holdfast import stop

MOST_PARTS = 20_000
"""Values of one message that are read here. Messages for another program in a sandbox are passed on as they are."""

CLOSE_SECONDS = 5.0
"""Time in which a killed program must have ended."""

Start = Callable[[IO[bytes]], "subprocess.Popen[bytes]"]
"""Starts a program whose standard input and output are pipes, and whose standard error is the given file."""


class ProgramEndedError(Exception):
    """A program in a sandbox ended, or said something that is no message.

    Args:
        why: what is known about it, in words.
    """

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


class ProgramLateError(Exception):
    """A program in a sandbox did not answer in time."""


class Conversation:
    """A running program. It is killed on `close`.

    Args:
        start: starts it.
        longest: bytes of one message that are read. A program that sends more is taken to have ended.
    """

    def __init__(self, start: Start, longest: int) -> None:
        self.longest = longest
        self._said = bytearray()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `close`)
        self.process = start(self._errors)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)

    def ask(self, message: Any, seconds: float) -> Any:
        """Send a message and wait for the next one.

        Raises:
            ProgramEndedError: the program is not there any more, or answers with something else than a message.
            ProgramLateError: there is no answer within `seconds`.
        """
        return parsed(self.ask_raw(json.dumps(message).encode(), seconds))

    def ask_raw(self, line: bytes, seconds: float) -> bytes:
        """`ask` with messages as lines of JSON, without their ends."""
        deadline = time.monotonic() + seconds
        self._send(line + b"\n", deadline)
        return self._receive(deadline)

    def receive(self, seconds: float) -> Any:
        """Wait for a message that the program sends by itself. Raises as `ask`."""
        return parsed(self._receive(time.monotonic() + seconds))

    def close(self) -> None:
        """Kill the program and everything that it started."""
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a disk that does not answer
            self.process.wait(CLOSE_SECONDS)

    def _send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            if not _wait(self._in, select.POLLOUT, deadline):
                raise ProgramLateError
            try:
                rest = rest[os.write(self._in, rest) :]
            except BlockingIOError:
                continue
            except OSError:
                raise ProgramEndedError(self._why()) from None

    def _receive(self, deadline: float) -> bytes:
        seen = 0
        while (end := self._said.find(b"\n", seen)) < 0:
            seen = len(self._said)
            if seen > self.longest:
                raise ProgramEndedError("it wrote too much")
            if not _wait(self._out, select.POLLIN, deadline):
                raise ProgramLateError
            try:
                chunk = os.read(self._out, 2**16)
            except BlockingIOError:
                continue
            if not chunk:
                raise ProgramEndedError(self._why())
            self._said += chunk
        line = bytes(self._said[:end])
        del self._said[: end + 1]
        return line

    def _why(self) -> str:
        """How the program ended, with the last line of its standard error."""
        try:
            code = self.process.wait(1)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        self._errors.seek(0)
        lines = self._errors.read(2**16).decode(errors="replace").strip().splitlines()
        return f"it ended with code {code}" + (f": {lines[-1][:200]}" if lines else "")


def parsed(line: bytes) -> Any:
    """A message of a program, as JSON.

    Raises:
        ProgramEndedError: it is none.
    """
    # As Python's objects, a line of brackets would take many times its bytes, in this process.
    parts = sum(map(line.count, (b",", b"[", b"{")))
    try:
        if parts > MOST_PARTS:
            raise ValueError("too many values")
        return json.loads(line)
    except (ValueError, RecursionError):
        raise ProgramEndedError("it said something that is no message") from None


def _wait(number: int, event: int, deadline: float) -> bool:
    """Wait until a file descriptor can be read or written, or is closed at its other end. False if it is too late."""
    poll = select.poll()
    poll.register(number, event)
    while True:
        stop.poll()
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        if poll.poll(min(left, 1.0) * 1000):
            return True
