"""`holdfast.stream.run`: of two processes one writes a run directory, and the other is told which."""

import os
import re
import select
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from processes import PATIENCE, Command, start
from small_runs import assert_same, write_config

pytestmark = pytest.mark.processes


def wait_at_checkpoint(rank: int, *, ready: str, go: str) -> None:
    """At the first checkpoint, say so on a FIFO, and go on when something comes on another one."""
    from holdfast.stream.checkpoints import RunCheckpoints

    whole = RunCheckpoints.save

    def save(self: RunCheckpoints, position: Any, **how: Any) -> None:
        whole(self, position, **how)
        RunCheckpoints.save = whole  # type: ignore[method-assign]
        Path(ready).write_text("ready")
        with open(go, "rb", buffering=0) as waited:
            waited.read(1)

    RunCheckpoints.save = save  # type: ignore[method-assign]


@contextmanager
def waiting(folder: Path, *arguments: str | Path) -> Iterator[Command]:
    """A command that waits at its first checkpoint while the block runs, and has ended after it."""
    ready, go = folder / "ready", folder / "go"
    for fifo in (ready, go):
        os.mkfifo(fifo)
    # Opened to read and write, a FIFO waits for nobody, not even for a process that was killed.
    is_ready, may_go = (os.open(fifo, os.O_RDWR) for fifo in (ready, go))
    command = start(*arguments, before=partial(wait_at_checkpoint, ready=str(ready), go=str(go)))
    assert select.select([is_ready], [], [], PATIENCE)[0], command.output()
    try:
        yield command
    finally:
        os.write(may_go, b"!")
        command.join()
        for fifo, descriptor in ((ready, is_ready), (go, may_go)):
            os.close(descriptor)
            fifo.unlink()


def _assert_refused(command: Command, named: Path, pid: int | None) -> None:
    assert command.join() == [2], command.output()
    lines = [line for line in command.output().splitlines() if line.startswith("holdfast: error: ")]
    says = (
        rf"holdfast: error: {named}: is being written by process {pid} on {socket.gethostname()} since \S+ \(wait .*\)"
    )
    assert len(lines) == 1, command.output()
    assert re.fullmatch(says, lines[0]), lines[0]


def test_a_live_run_is_neither_resumed_nor_run_again(tmp_path: Path) -> None:
    config, run, alias = write_config(tmp_path, "grpo"), tmp_path / "run", tmp_path / "alias"
    start("run", config, "-o", tmp_path / "whole").finish()
    alias.symlink_to(run)  # another name of the same directory
    with waiting(tmp_path, "run", config, "-o", run) as first:
        pid = first.processes[0].pid
        _assert_refused(start("resume", alias), alias, pid)
        _assert_refused(start("run", config, "-o", alias), alias, pid)
        assert start("report", alias).join() == [0], "reading is free"
    first.finish()
    assert_same(tmp_path / "whole", run)
    assert not (run / ".lock").exists()


def test_of_two_that_resume_one_goes_on(tmp_path: Path) -> None:
    config, run, alias = write_config(tmp_path, "grpo"), tmp_path / "run", tmp_path / "alias"
    start("run", config, "-o", tmp_path / "whole").finish()
    alias.symlink_to(run)
    with waiting(tmp_path, "run", config, "-o", run) as first:
        first.kill()
    assert (run / ".lock").exists(), "the lock of a dead process"
    with waiting(tmp_path, "resume", run) as second:
        _assert_refused(start("resume", alias), alias, second.processes[0].pid)
    second.finish()
    assert_same(tmp_path / "whole", run)


def test_a_run_directory_that_is_removed_is_not_built_again(tmp_path: Path) -> None:
    config, run = write_config(tmp_path, "grpo"), tmp_path / "run"
    with waiting(tmp_path, "run", config, "-o", run) as command:
        shutil.rmtree(run)
    assert command.join() == [2], command.output()
    lines = [line for line in command.output().splitlines() if line.startswith("holdfast: error: ")]
    assert len(lines) == 1
    assert f"{run}: the directory was removed or replaced while the run was writing it (" in lines[0]
    assert not run.exists()
