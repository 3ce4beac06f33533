"""The standard streams of a program in a sandbox."""

import subprocess
from dataclasses import dataclass
from typing import IO

_Stream = int | IO[bytes] | None
"""As `subprocess.Popen` takes it."""


@dataclass(frozen=True, slots=True)
class Streams:
    """What a program reads and writes; by default nothing."""

    stdin: _Stream = subprocess.DEVNULL
    stdout: _Stream = subprocess.DEVNULL
    stderr: _Stream = subprocess.DEVNULL


NO_STREAMS = Streams()
