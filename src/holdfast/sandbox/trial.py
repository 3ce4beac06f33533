"""Tries a kind of sandbox with a small program, before anything relies on it."""

import subprocess
from collections.abc import Callable, Sequence

from holdfast.sandbox.streams import Streams

SECONDS = 60.0
"""Time in which a program in a sandbox must begin, on a busy machine."""

_SAYS = "it works"
_PROGRAM = f"import sys; assert sys.version_info >= (3, 11), 'its Python is older than 3.11'; print({_SAYS!r})"

Launch = Callable[[Sequence[str], Streams], "subprocess.Popen[bytes]"]
"""Starts a program in a sandbox of the kind."""


def fault_of(launch: Launch, python: str) -> str:
    """Why no program runs in a sandbox, as the last line that it says; "" if one does.

    Args:
        python: the interpreter's place in the sandbox.
    """
    try:
        process = launch([python, "-I", "-c", _PROGRAM], Streams(stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    except OSError as error:
        return str(error)
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"no program begins in it within {SECONDS:g} s"
    if out.decode(errors="replace").strip() == _SAYS:
        return ""
    return (err.decode(errors="replace").strip().splitlines() or ["it says nothing"])[-1][:200]
