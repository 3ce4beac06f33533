"""Signals that a process sends itself at its n-th tensor operation, or at its n-th change of a run's files."""

import os
import signal
import sys
from pathlib import Path
from typing import Any, Literal

FILE_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}

Kind = Literal["operation", "file", "checkpoint"]


def count(kind: Kind, run: str, last: int, log: str, number: int = signal.SIGKILL) -> None:
    """Count tensor operations, or changes of a run's files, from now on. At number `last`, signal this process.

    In checkpoints, opening a file to read counts too: this is how they are checksummed and flushed to disk.
    """
    seen = 0

    def next_one(what: str) -> None:
        nonlocal seen
        seen += 1
        if seen == last:
            Path(log).write_text(f"{kind} {seen}: {what}")
            os.kill(os.getpid(), number)

    if kind == "operation":
        from torch.utils._python_dispatch import TorchDispatchMode

        class Counter(TorchDispatchMode):
            def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                next_one(str(operation))
                return operation(*args, **(kwargs or {}))

        Counter().__enter__()
        return
    log_path = os.path.abspath(log)
    watched = os.path.join(run, "checkpoints" if kind == "checkpoint" else "")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in FILE_EVENTS:
            return
        path = arguments[0]
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(watched):
            return
        is_read = event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        if (kind == "checkpoint" or not is_read) and os.fspath(path) != log_path:
            next_one(f"{event} {os.path.relpath(path, run)}")

    sys.addaudithook(hook)


def count_in(rank: int, *, of: int, kind: Kind, run: str, last: int, log: str, number: int = signal.SIGKILL) -> None:
    """Count in process `of` of several. Tensor operations count only after the run has been loaded."""
    if rank != of:
        return
    if kind != "operation":
        count(kind, run, last, log, number)
        return
    from holdfast.stream.run import Run

    whole = Run._execute

    def counted(self: Run, position: Any) -> Any:
        count(kind, run, last, log, number)
        return whole(self, position)

    Run._execute = counted  # type: ignore[method-assign]
