"""No sandbox: programs run as this user, with all that this user may do. The user's own word asks for it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from holdfast.sandbox.limits import Limits
from holdfast.sandbox.places import INSIDE
from holdfast.sandbox.streams import NO_STREAMS, Streams


@dataclass(frozen=True)
class Unprotected:
    """Starts programs with limits of the kernel, and without any other protection.

    Args:
        limits: of each program. The number of processes is not held, because it counts all that this user runs.
    """

    limits: Limits = field(default_factory=Limits)

    @property
    def python(self) -> str:
        """The interpreter."""
        return sys.executable

    @property
    def place(self) -> str:
        """The folder that has `inside`."""
        return str(INSIDE.parent)

    def check(self) -> None:
        """There is nothing that could be missing."""

    def launch(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        streams: Streams = NO_STREAMS,
    ) -> "subprocess.Popen[bytes]":
        """Start a program in the current folder, with an empty environment but for what is given.

        Killing what is returned kills its group: a program that leaves it on purpose lives on.
        """
        limits = {**self.limits.of_kernel(), "processes": None}
        entry = json.dumps({"limits": limits, "keep": list(pass_fds), "user": None})
        return _Group(
            [self.python, "-I", "-S", "-B", str(INSIDE / "enter.py"), entry, *argv],
            stdin=streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr,
            pass_fds=tuple(pass_fds),
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONHASHSEED": "0", **(environment or {})},
            start_new_session=True,
        )


class _Group(subprocess.Popen[bytes]):
    """A program that leads a group of processes. Killing it alone would leave those that it has started."""

    def kill(self) -> None:
        """Kill all of the group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        super().kill()
