"""A sandbox by bubblewrap: namespaces of its own, an empty folder, a read-only view, limits. Linux only.

What a program in it has: the interpreter with its packages, /usr, and folders that are named, all read-only; an empty
working folder and /dev/shm in memory, which end with it; a few devices such as /dev/null; a /proc of its own processes.
What it has not: a network, the home folder, other processes, the environment, capabilities, other file descriptors.

It never runs as root. Where this process is root, it becomes the user 65534 in a user namespace of its own, because
the kernel holds root to no number of processes.
"""

import contextlib
import functools
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from holdfast.errors import ConfigError
from holdfast.sandbox import seccomp
from holdfast.sandbox.limits import Limits
from holdfast.sandbox.places import FOLDER, INSIDE, PLACE
from holdfast.sandbox.streams import NO_STREAMS, Streams
from holdfast.sandbox.trial import fault_of

T = TypeVar("T")

NOBODY = 65534

INSTALL = "install it: `apt-get install bubblewrap`, `dnf install bubblewrap` or `pacman -S bubblewrap`"
OTHER_WAYS = "or choose another `sandbox`, or allow code to run without one with `run_code: unprotected`"

_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": FOLDER,
    "TMPDIR": FOLDER,
    "LANG": "C.UTF-8",
    # The same program gives the same output, and libraries start no threads that a limit would stop.
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Bubblewrap:
    """Starts programs in sandboxes.

    Args:
        limits: of each program.
        read_only: further files and folders that it sees, at their own places.
    """

    limits: Limits = field(default_factory=Limits)
    read_only: tuple[Path, ...] = ()

    @property
    def python(self) -> str:
        """The interpreter's place in the sandbox."""
        return sys.executable

    @property
    def place(self) -> str:
        """The folder in the sandbox that has `inside`."""
        return PLACE

    def check(self) -> None:
        """Make sure that there can be such a sandbox on this machine.

        Raises:
            ConfigError: there can be none; it says why, and what to install.
        """
        if (reason := refusal()) is not None:
            raise reason

    def launch(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        streams: Streams = NO_STREAMS,
    ) -> "subprocess.Popen[bytes]":
        """Start a program in a sandbox of its own.

        Killing the returned process kills everything in the sandbox. So does the end of this process, however it ends.

        Args:
            argv: the program, with its path as it is in the sandbox, and its arguments.
            environment: added to a few harmless variables. Nothing of this process's own environment goes in.
            pass_fds: open file descriptors that the program gets, under the same numbers.
            streams: what it reads and writes.

        Raises:
            ConfigError: there can be no such sandbox on this machine.
        """
        self.check()
        return self._launch(argv, environment or {}, pass_fds, streams)

    def _launch(
        self, argv: Sequence[str], environment: Mapping[str, str], pass_fds: Sequence[int], streams: Streams
    ) -> "subprocess.Popen[bytes]":
        as_root = os.geteuid() == 0
        entry = {"limits": self.limits.of_kernel(), "keep": list(pass_fds), "user": NOBODY if as_root else None}
        command = [self.python, "-I", "-S", "-B", f"{PLACE}/inside/enter.py", json.dumps(entry), *argv]
        with contextlib.ExitStack() as stack:
            arguments = self.arguments(environment)
            passed = list(pass_fds)
            passed.append(number := _file_of(stack, seccomp.no_escape()))
            arguments += ["--seccomp", str(number)]
            if as_root:
                wait_read, wait_write = _pipe(stack)
                info_read, info_write = os.pipe()
                stack.callback(os.close, info_read)
                passed += [wait_read, info_write]
                arguments += ["--userns-block-fd", str(wait_read), "--info-fd", str(info_write)]
            # Not as arguments: every process can read those, and they name folders of this machine.
            passed.append(number := _file_of(stack, b"".join(each.encode() + b"\0" for each in arguments)))
            try:
                process = _start(
                    lambda: subprocess.Popen(
                        [str(_program()), "--args", str(number), "--", *command],
                        stdin=streams.stdin,
                        stdout=streams.stdout,
                        stderr=streams.stderr,
                        pass_fds=passed,
                        env={},
                        cwd="/",
                    )
                )
            finally:
                if as_root:
                    os.close(info_write)  # so that reading ends when the sandbox has said everything
            if as_root:
                _map_users(info_read, wait_write, process)
        return process

    def arguments(self, environment: Mapping[str, str]) -> list[str]:
        """The arguments of bubblewrap, without those that depend on open files."""
        size = str(self.limits.folder_bytes)
        words = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-net", "--unshare-uts"]
        words += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--hostname", "sandbox"]
        words += ["--clearenv", "--cap-drop", "ALL"]
        if os.geteuid() == 0:
            words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        else:
            words += ["--uid", str(NOBODY), "--gid", str(NOBODY)]
        for name, value in {**_ENVIRONMENT, **environment}.items():
            words += ["--setenv", name, value]
        view = (*_interpreter(), *self.read_only)
        words += [*_view(view), "--perms", "0755", "--dir", PLACE, "--ro-bind", str(INSIDE), f"{PLACE}/inside"]
        words += ["--proc", "/proc", "--dev", "/dev"]
        words += ["--perms", "1777", "--size", size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
        words += ["--perms", "1777", "--size", size, "--tmpfs", FOLDER]
        if not any(path.is_relative_to("/tmp") for path in view):
            words += ["--symlink", FOLDER, "/tmp"]
        return [*words, "--remount-ro", "/", "--chdir", FOLDER]


@functools.cache
def refusal() -> ConfigError | None:
    """Why there can be no sandbox by bubblewrap on this machine, as an error to raise; None if there can."""
    if not sys.platform.startswith("linux"):
        return ConfigError("code that a model wrote needs a sandbox, and bubblewrap is for Linux", fix=OTHER_WAYS[3:])
    if not seccomp.is_known():
        what = f"bubblewrap alone does not suffice, and there is no filter of system calls for {platform.machine()}"
        return ConfigError(f"code that a model wrote needs a sandbox: {what}", fix=OTHER_WAYS[3:])
    if _program() is None:
        return ConfigError(
            "code that a model wrote needs a sandbox, and bubblewrap is not installed", fix=f"{INSTALL}; {OTHER_WAYS}"
        )
    box = Bubblewrap()
    fault = fault_of(lambda argv, streams: box._launch(argv, {}, (), streams), box.python)
    if not fault:
        return None
    return ConfigError(
        f"code that a model wrote needs a sandbox, and bubblewrap cannot make one here: {fault}",
        fix=f"allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
        f"kernel.apparmor_restrict_unprivileged_userns=0; in Docker --security-opt seccomp=unconfined); {OTHER_WAYS}",
    )


@functools.cache
def _program() -> Path | None:
    found = shutil.which("bwrap")
    return None if found is None else Path(found)


@functools.cache
def _interpreter() -> tuple[Path, ...]:
    """What the interpreter and its packages need: files and folders that exist on this machine."""
    found = [Path(each) for each in ("/usr", "/etc/ld.so.cache", "/etc/alternatives", "/nix/store", "/gnu/store")]
    found += [Path(each) for each in (sys.base_prefix, sys.base_exec_prefix, sys.prefix, sys.exec_prefix)]
    found += [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    # The interpreter of an environment is a link to another place, which may be a link itself.
    link = Path(sys.executable)
    while link.is_symlink():
        link = link.parent / os.readlink(link)
        found.append(link)
    paths = dict.fromkeys(Path(os.path.normpath(each)) for each in found if each.exists())
    home = Path(os.path.expanduser("~"))  # stays `~`, which is nowhere, for a user without a home folder
    return tuple(path for path in paths if not home.is_relative_to(path))


def _view(paths: Sequence[Path]) -> list[str]:
    """Bind files and folders read-only at their own places. Folders above them are there, and empty but for them."""
    words: list[str] = []
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        top = Path("/", name)
        if top.is_symlink():
            words += ["--symlink", os.readlink(top), str(top)]
        elif top.is_dir():
            paths = (*paths, top)
    chosen = sorted({path for path in paths if path != Path("/")}, key=lambda path: len(path.parts))
    made = set[Path]()
    kept: list[Path] = []
    for path in chosen:
        if any(path.is_relative_to(other) for other in kept):
            continue
        for parent in reversed(path.parents[:-1]):
            if parent not in made:
                words += ["--perms", "0755", "--dir", str(parent)]
                made.add(parent)
        words += ["--ro-bind", str(path), str(path)]
        kept.append(path)
    return words


def _file_of(stack: contextlib.ExitStack, content: bytes) -> int:
    """A file descriptor from which a child can read bytes. It is closed here at the end of the stack."""
    number = os.memfd_create("holdfast")
    stack.callback(os.close, number)
    os.write(number, content)
    os.lseek(number, 0, os.SEEK_SET)
    return number


def _pipe(stack: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        stack.callback(os.close, end)
    return ends


def _map_users(info: int, ready: int, process: "subprocess.Popen[bytes]") -> None:
    """Give a sandbox that root starts two users: root, which sets it up, and nobody, whom its program becomes."""
    said = b""
    while chunk := os.read(info, 4096):
        said += chunk
    try:
        child = json.loads(said)["child-pid"]
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text(f"0 0 1\n{NOBODY} {NOBODY} 1\n", encoding="ascii")
    except (ValueError, KeyError, OSError):
        # It ended before it began, and says on its standard error why.
        process.kill()
        return
    os.write(ready, b"1")


class _Starter:
    """A thread that starts all sandboxes. The kernel kills a sandbox when the thread that started it ends."""

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A forked process has none of the threads."""
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def __call__(self, start: Callable[[], T]) -> T:
        with self._lock:
            self._pool = self._pool or ThreadPoolExecutor(1, "holdfast-sandbox")
            return self._pool.submit(start).result()


_start = _Starter()
