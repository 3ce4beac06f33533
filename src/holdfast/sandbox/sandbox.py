"""What every kind of sandbox offers, and which kinds there are."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from holdfast.errors import ConfigError, DataError, did_you_mean
from holdfast.sandbox import trial
from holdfast.sandbox.bubblewrap import Bubblewrap
from holdfast.sandbox.containers import IMAGE, Container
from holdfast.sandbox.conversation import Conversation, ProgramEndedError, ProgramLateError
from holdfast.sandbox.limits import Limits
from holdfast.sandbox.streams import NO_STREAMS, Streams
from holdfast.sandbox.unprotected import Unprotected

_BOOTSTRAP = "import sys; sys.path.insert(0, {place!r}); from inside.{module} import main; del sys.path[0]; main()"


class Sandbox(Protocol):
    """Starts programs that can harm nothing outside."""

    @property
    def python(self) -> str:
        """The interpreter's place in the sandbox."""

    @property
    def place(self) -> str:
        """The folder in the sandbox that has the programs of `inside`."""

    def check(self) -> None:
        """Raise a `ConfigError` if there can be no such sandbox on this machine."""

    def launch(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        streams: Streams = NO_STREAMS,
    ) -> "subprocess.Popen[bytes]":
        """Start a program. Killing what is returned kills all of it. See `Bubblewrap.launch`."""


KINDS: Mapping[str, Callable[[Limits, tuple[Path, ...], str], Sandbox]] = {
    "bubblewrap": lambda limits, read_only, image: Bubblewrap(limits, read_only),
    "docker": lambda limits, read_only, image: Container("docker", image, limits, read_only),
    "podman": lambda limits, read_only, image: Container("podman", image, limits, read_only),
    "unprotected": lambda limits, read_only, image: Unprotected(limits),
}
"""The kinds of sandbox that start programs, by name; and what is none."""


def sandbox(
    kind: str = "bubblewrap", limits: Limits | None = None, read_only: Sequence[Path] = (), image: str = IMAGE
) -> Sandbox:
    """A sandbox of a kind.

    Args:
        kind: a name in `KINDS`.
        limits: of each program.
        read_only: further files and folders that programs see.
        image: of containers.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"there is no sandbox {kind!r}", fix=did_you_mean(kind, KINDS))
    return KINDS[kind](limits or Limits(), tuple(read_only), image)


def converse(sandbox: Sandbox, module: str, longest: int) -> Conversation:
    """Start a program of `inside` in a sandbox, and talk with it.

    Args:
        module: its name.
        longest: bytes of one of its messages.

    Raises:
        ConfigError: there can be no such sandbox on this machine.
        DataError: there can, and yet this one does not start. The program in it has no part in that.
    """
    code = _BOOTSTRAP.format(place=sandbox.place, module=module)
    argv = [sandbox.python, "-P", "-s", "-B", "-c", code]

    def start(errors: IO[bytes]) -> "subprocess.Popen[bytes]":
        return sandbox.launch(argv, streams=Streams(subprocess.PIPE, subprocess.PIPE, errors))

    conversation = Conversation(start, longest)
    try:
        conversation.receive(trial.SECONDS)  # that it has begun
    except BaseException as error:
        conversation.close()
        if not isinstance(error, ProgramEndedError | ProgramLateError):
            raise
        why = str(error) or f"it does not begin within {trial.SECONDS:g} s"
        fix = "let the machine have room for more processes, or use another `sandbox`"
        raise DataError(f"a sandbox for code that a model wrote does not start: {why}", fix=fix) from None
    return conversation
