"""A sandbox by Docker or Podman: a container without network, read-only, for each program.

Slower than bubblewrap, and the image decides which packages there are. It is for machines that have no user namespaces
for bubblewrap, or are no Linux.
"""

import contextlib
import functools
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.errors import ConfigError
from holdfast.sandbox.limits import Limits
from holdfast.sandbox.places import FOLDER, INSIDE, PLACE
from holdfast.sandbox.streams import NO_STREAMS, Streams
from holdfast.sandbox.trial import fault_of

IMAGE = "python:3.12-slim"
"""The image of containers: any with Python 3.11 or newer."""

REMOVE_SECONDS = 30.0
"""Time in which a container must be removed."""


@dataclass(frozen=True)
class Container:
    """Starts programs in containers.

    Args:
        program: `docker` or `podman`.
        image: with Python 3.11 or newer as `python3`.
        limits: of each program.
        read_only: further files and folders that it sees, at their own places.
    """

    program: str
    image: str
    limits: Limits = field(default_factory=Limits)
    read_only: tuple[Path, ...] = ()

    @property
    def python(self) -> str:
        """The interpreter's place in the container."""
        return "python3"

    @property
    def place(self) -> str:
        """The folder in the container that has `inside`."""
        return PLACE

    def check(self) -> None:
        """Make sure that there can be such a container on this machine.

        Raises:
            ConfigError: there can be none; it says why.
        """
        if (reason := refusal(self.program, self.image)) is not None:
            raise reason

    def launch(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        streams: Streams = NO_STREAMS,
    ) -> "subprocess.Popen[bytes]":
        """Start a program in a container of its own. It gets no file descriptors but the standard ones.

        Raises:
            ConfigError: there can be no such container, or file descriptors are to be passed.
        """
        if pass_fds:
            raise ConfigError(f"{self.program} passes no file descriptors", fix="use `sandbox: {kind: bubblewrap}`")
        self.check()
        return self._launch(argv, environment or {}, streams)

    def _launch(
        self, argv: Sequence[str], environment: Mapping[str, str], streams: Streams
    ) -> "subprocess.Popen[bytes]":
        name = f"holdfast-{uuid.uuid4().hex}"
        return _Container(self.program, name, self.command(argv, environment, name), streams)

    def command(self, argv: Sequence[str], environment: Mapping[str, str], name: str) -> list[str]:
        """The command line that starts a program in a container of a name."""
        limits = self.limits
        words = [self.program, "run", "--rm", "--interactive", "--init", "--pull", "never", "--name", name]
        words += ["--network", "none", "--ipc", "private", "--read-only", "--user", "65534:65534"]
        words += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--hostname", "sandbox"]
        # The kernel counts memory of the whole container, and swap would be more of it.
        words += ["--memory", str(limits.memory), "--memory-swap", str(limits.memory)]
        words += ["--pids-limit", str(limits.processes), "--cpus", "1"]
        for kind, most in (
            ("cpu", limits.cpu_seconds),
            ("fsize", limits.file_bytes),
            ("nofile", limits.open_files),
            ("core", 0),
        ):
            words += ["--ulimit", f"{kind}={most}:{most}"]
        words += ["--tmpfs", f"{FOLDER}:rw,nosuid,nodev,mode=1777,size={limits.folder_bytes}", "--workdir", FOLDER]
        words += ["--shm-size", str(limits.folder_bytes)]
        for source, target in ((INSIDE, f"{PLACE}/inside"), *((path, str(path)) for path in self.read_only)):
            words += ["--mount", f"type=bind,source={source},target={target},readonly"]
        for key, value in {"HOME": FOLDER, "TMPDIR": FOLDER, "PYTHONHASHSEED": "0", **environment}.items():
            words += ["--env", f"{key}={value}"]
        return [*words, "--entrypoint", argv[0], self.image, *argv[1:]]


class _Container(subprocess.Popen[bytes]):
    """The client of a container. Killing the client alone would leave the container running."""

    def __init__(self, program: str, name: str, command: list[str], streams: Streams) -> None:
        self._remove = [program, "rm", "--force", name]
        super().__init__(command, stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr)

    def kill(self) -> None:
        """Remove the container, and kill its client. A server that does not answer is not waited for."""
        if self.poll() is None:
            nothing = subprocess.DEVNULL
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    self._remove, check=False, stdin=nothing, stdout=nothing, stderr=nothing, timeout=REMOVE_SECONDS
                )
        super().kill()


@functools.cache
def refusal(program: str, image: str) -> ConfigError | None:
    """Why there can be no container of an image on this machine, as an error to raise; None if there can."""
    if shutil.which(program) is None:
        return ConfigError(f"{program} is not installed", fix=f"install {program}, or use bubblewrap")
    container = Container(program, image)
    fault = fault_of(lambda argv, streams: container._launch(argv, {}, streams), container.python)
    if not fault:
        return None
    fix = f"fetch it with `{program} pull {image}`, and check that `{program} run {image}` works"
    return ConfigError(f"{program} cannot run a program in the image {image!r}: {fault}", fix=fix)
