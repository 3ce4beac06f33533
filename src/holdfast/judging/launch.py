"""How the program of a judging process is started.

A launcher takes an argument list, the whole environment, and the file descriptors that the program inherits. It
returns the started program as a `Popen`. If that has a `stdout`, it is a pipe with everything that the program prints;
nothing on it is taken for a verdict. To end a program, its process group is killed if it leads one, and the program
itself in any case.
"""

import subprocess
from collections.abc import Callable, Mapping, Sequence

Launcher = Callable[[Sequence[str], Mapping[str, str], Sequence[int]], "subprocess.Popen[bytes]"]


def plain_launcher(
    argv: Sequence[str], environment: Mapping[str, str], pass_fds: Sequence[int]
) -> "subprocess.Popen[bytes]":
    """Start a program in a session of its own, with the user's rights and in the working directory."""
    return subprocess.Popen(
        argv,
        env=dict(environment),
        pass_fds=pass_fds,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
