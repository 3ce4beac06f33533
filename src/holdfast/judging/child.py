"""One judging process, as the run sees it."""

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from typing import Any

from holdfast.judging import frames
from holdfast.judging.output import Output

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from holdfast.judging.worker import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
"""The process imports what the run does, wherever the run found it."""


class ChildEndedError(Exception):
    """The process ended, or broke its pipe. The message says how."""


class Child:
    """A started process.

    Attributes:
        functions: the names of those that it has imported.
        deadline: when the request under way takes too long, on `time.monotonic`'s clock; infinity without one.
    """

    def __init__(self) -> None:
        request_end, self._write_fd = os.pipe()
        self._read_fd, answer_end = os.pipe()
        # Without -P, `-c` looks for `json` in the working folder first.
        argv = [sys.executable, "-u", "-P", "-c", _PROGRAM, json.dumps(sys.path), str(request_end), str(answer_end)]
        try:
            self._process = subprocess.Popen(
                argv,
                pass_fds=(request_end, answer_end),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # what it prints; nothing on it is taken for a verdict
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._write_fd)
            os.close(self._read_fd)
            raise
        finally:
            os.close(request_end)
            os.close(answer_end)
        for fd in (self._write_fd, self._read_fd):
            os.set_blocking(fd, False)
        self._unsent = b""
        self._arrived = bytearray()
        self._nonce = ""
        self._status: int | None = None
        assert self._process.stdout is not None
        self.output = Output(self._process.stdout)
        self.functions: set[str] = set()
        self.deadline = float("inf")

    @property
    def is_busy(self) -> bool:
        """Whether a request has no answer yet."""
        return bool(self._nonce)

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended, or closed its pipe."""
        poll = select.poll()
        poll.register(self._read_fd, 0)
        return bool(poll.poll(0))

    @property
    def waits_to_send(self) -> bool:
        """Whether a part of the request has not been taken yet."""
        return bool(self._unsent)

    def fileno(self) -> int:
        """Readable when an answer has come."""
        return self._read_fd

    @property
    def write_fd(self) -> int:
        """Writable when more of the request can be sent."""
        return self._write_fd

    def ask(self, request: dict[str, Any], limit: float) -> None:
        """Send a request. Its time begins now.

        Args:
            limit: seconds until its deadline.

        Raises:
            DataError: the request is too long.
        """
        assert not self.is_busy
        nonce = secrets.token_hex(16)
        self._unsent = frames.packed({**request, "nonce": nonce})
        self._nonce = nonce
        self.deadline = time.monotonic() + limit
        self.send()

    def send(self) -> None:
        """Send as much of the request as the pipe takes. A broken pipe is noticed by `receive`."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            self._unsent = self._unsent[os.write(self._write_fd, self._unsent) :]

    def receive(self) -> dict[str, Any] | None:
        """The answer to the request under way; None if there is none yet. Other messages count for nothing.

        Raises:
            ChildEndedError: no answer will come.
        """
        try:
            part = os.read(self._read_fd, 2**20)
            self._arrived += part
            while (message := frames.take(self._arrived)) is not None:
                if type(message.get("ended")) is int:
                    self._status = message["ended"]
                elif self._nonce and message.get("nonce") == self._nonce:
                    self._nonce, self.deadline = "", float("inf")
                    return message
        except BlockingIOError:
            return None
        except ValueError:  # code of the user has written to the pipe
            raise ChildEndedError("its process wrote something else than a verdict to the pipe for verdicts") from None
        if not part:
            raise ChildEndedError(self._end())
        return None

    def _end(self) -> str:
        """How the process ended, in words, with the last line that it printed."""
        self.output.forward()
        status = self._status
        if status is None:
            how = "its process ended"
        elif status < 0:
            known = {each.value: each.name for each in signal.Signals}
            how = f"its process was ended by {known.get(-status, f'signal {-status}')}"
        else:
            how = f"its process exited with code {status}"
        return f"{how}: {self.output.last_line}" if self.output.last_line else how

    def end(self) -> None:
        """End the process and all that it has started in its group."""
        for fd in (self._write_fd, self._read_fd):
            os.close(fd)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a file system that does not answer
            self._process.wait(5)
        self.output.close()
