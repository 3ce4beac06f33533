"""What judging processes print: the beginning goes to the run's stderr, the rest is dropped."""

import contextlib
import os
import sys
from typing import IO

from holdfast.errors import printable

SHOWN = 10_000
"""Bytes of one process's output that are shown. A verifier that prints at every answer must not bury the run's own."""

_KEPT = 2_000


class Output:
    """The output of one process.

    Args:
        pipe: where it comes from.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe: IO[bytes] | None = pipe
        self._shown, self._last = 0, b""
        os.set_blocking(pipe.fileno(), False)

    @property
    def pipe(self) -> IO[bytes] | None:
        """Readable when there is more; None after its end."""
        return self._pipe

    @property
    def last_line(self) -> str:
        """The last line that is not empty, at most 300 characters of it."""
        lines = [line for line in _text(self._last).splitlines() if line.strip()]
        return lines[-1].strip()[:300] if lines else ""

    def forward(self) -> None:
        """Take what has been printed since the last call, without waiting."""
        if self._pipe is None:
            return
        try:
            part = os.read(self._pipe.fileno(), 2**16)
        except BlockingIOError:
            return
        if not part:
            self.close()
            return
        self._last = (self._last + part)[-_KEPT:]
        if self._shown < SHOWN:
            text = _text(part[: SHOWN - self._shown])
            self._shown += len(part)
            more = "\n(more of what verifiers print is not shown)\n" if self._shown >= SHOWN else ""
            # A run goes on when nobody reads what it says.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(text + more)
                sys.stderr.flush()

    def close(self) -> None:
        """Take nothing more."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


def _text(raw: bytes) -> str:
    return printable(raw.decode(errors="replace").replace("\r\n", "\n"))
