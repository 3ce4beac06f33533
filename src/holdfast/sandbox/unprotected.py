"""No sandbox: programs run as this user, with all that this user may do. The user's own word asks for it."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from holdfast.sandbox.bubblewrap import INSIDE, ChildStream
from holdfast.sandbox.limits import Limits


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
        *,
        stdin: ChildStream = subprocess.DEVNULL,
        stdout: ChildStream = subprocess.DEVNULL,
        stderr: ChildStream = subprocess.DEVNULL,
    ) -> "subprocess.Popen[bytes]":
        """Start a program in the current folder, with an empty environment but for what is given."""
        limits = {**self.limits.of_kernel(), "processes": None}
        entry = json.dumps({"limits": limits, "keep": list(pass_fds), "user": None})
        return subprocess.Popen(
            [self.python, "-I", "-S", "-B", str(INSIDE / "enter.py"), entry, *argv],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONHASHSEED": "0", **(environment or {})},
        )
