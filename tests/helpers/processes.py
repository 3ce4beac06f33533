"""Commands and functions in separate processes, forked from a server that has already loaded the libraries.

This saves seconds per start. Several processes rendezvous at a file, so that no free port is needed.
"""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

PATIENCE = 240
"""Seconds after which a process counts as hanging."""


@cache
def server() -> ForkServerContext:
    """The server that processes are forked from; it starts with the first process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "holdfast.cli.app",
            "holdfast.stream.compare",
            "holdfast.reporting.page",
            "transformers.models.qwen3",
            "warm",
            "processes",
        ]
    )
    return context


def run_command(arguments: Sequence[str], output: str) -> None:
    """Run one command in a forked process, with its output in a file."""
    from holdfast.cli.app import main

    with open(output, "w") as file:
        sys.stderr = sys.stdout = file
        sys.exit(main(arguments))


def start(*arguments: str | Path, size: int = 1, before: Callable[[int], object] | None = None) -> "Command":
    """Start a command in one process, or in several as torchrun does.

    Args:
        before: called in each process with its rank before the command.
    """
    return Command([str(argument) for argument in arguments], size, before)


class Command:
    """A command that is running."""

    def __init__(self, arguments: list[str], size: int, before: Callable[[int], object] | None) -> None:
        target = Path(arguments[-1])
        self.outputs = [target.with_suffix(f".{rank}.err") for rank in range(size)]
        store = target.with_suffix(".store")
        store.unlink(missing_ok=True)
        self.processes: list[ForkServerProcess] = [
            server().Process(target=_join_and_run, args=(rank, size, str(store), arguments, str(output), before))
            for rank, output in enumerate(self.outputs)
        ]
        for process in self.processes:
            process.start()

    def join(self) -> list[int | None]:
        """Wait for all processes; returns their exit codes."""
        for process in self.processes:
            process.join(PATIENCE)
            if process.is_alive():
                self.kill()
                raise AssertionError(f"a process hangs: {self.output()}")
        return [process.exitcode for process in self.processes]

    def finish(self) -> str:
        """Wait for all processes, which must succeed; returns their output."""
        codes = self.join()
        assert set(codes) == {0}, f"{codes}: {self.output()}"
        return self.output()

    def output(self) -> str:
        """Standard output and standard error of all processes so far."""
        return "".join(output.read_text() for output in self.outputs if output.exists())

    def kill(self) -> None:
        """Kill all processes with SIGKILL."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()


def _join_and_run(
    rank: int, size: int, store: str, arguments: list[str], output: str, before: Callable[[int], object] | None
) -> None:
    if size > 1:
        _join(rank, size, store)
    if before is not None:
        before(rank)
    run_command(arguments, output)


def _join(rank: int, size: int, store: str) -> None:
    import torch
    from torch import distributed

    from holdfast.model.processes import Processes

    torch.set_num_threads(1)
    os.environ["RANK"] = str(rank)
    Processes.join(distributed.FileStore(store, size), rank, size)


def together(work: Callable[..., object], size: int, folder: Path, *arguments: Any) -> None:
    """Call a function in `size` processes of one group; fails if any of them fails."""
    store = folder / "store"
    store.unlink(missing_ok=True)
    processes = [
        server().Process(target=_join_and_call, args=(rank, size, str(store), work, arguments)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
        if process.is_alive():
            for other in processes:
                other.kill()
            raise AssertionError("a process hangs")
    assert [process.exitcode for process in processes] == [0] * size


def _join_and_call(rank: int, size: int, store: str, work: Callable[..., object], arguments: Sequence[Any]) -> None:
    _join(rank, size, store)
    try:
        work(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # at once, so that the other processes do not wait for this one
