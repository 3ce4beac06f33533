"""The standard streams of a program in a sandbox."""

import subprocess
from dataclasses import dataclass
from typing import IO

Stream = int | IO[bytes] | None
"""As `subprocess.Popen` takes it."""


@dataclass(frozen=True, slots=True)
class Streams:
    """What a program reads and writes; by default nothing."""

    stdin: Stream = subprocess.DEVNULL
    stdout: Stream = subprocess.DEVNULL
    stderr: Stream = subprocess.DEVNULL


NO_STREAMS = Streams()
