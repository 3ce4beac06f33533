"""`holdfast.stream.room`: a full disk ends a run in one line, at each kind of write, and it resumes once there is room.

A run writes into a file system of a given size. Where one cannot be mounted, a write fails as a full disk makes it.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cases import amount, spread, tally
from interruptions import FILE_EVENTS
from processes import start
from small_runs import assert_same, write_config

pytestmark = pytest.mark.processes


@contextmanager
def disk_of(size: int, place: Path) -> Iterator[Path]:
    """A file system of some bytes; skips where this user cannot mount one."""
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()


def _fault(code: int | None, output: str, place: Path) -> str:
    """What is wrong with how a run on a full disk ended, or ""."""
    lines = [line for line in output.splitlines() if line.startswith("holdfast: error: ")]
    if code != 2 or len(lines) != 1 or "Traceback" in output:
        return f"exit code {code}: {output}"
    if not re.search(r"\(free .* on " + re.escape(str(place)), lines[0]):
        return f"it does not say what is missing where: {lines[0]}"
    return ""


@pytest.mark.torture
@pytest.mark.parametrize("name", ["grpo", "sdft with LoRA"])
def test_a_run_on_a_disk_of_any_size_ends_in_one_line_and_resumes(tmp_path: Path, name: str) -> None:
    config, whole = write_config(tmp_path, name), tmp_path / "whole"
    start("run", config, "-o", whole).finish()
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    steps = amount(3, 40)
    wrong = []
    for number in range(steps):
        with disk_of(4096 * round(size * (0.02 + 0.9 * number / steps) / 4096), tmp_path / "disk") as place:
            run = place / "run"
            command = start("run", config, "-o", run, before=unchecked if number % 2 else None)
            code = command.join()[0]
            if code == 0:
                continue
            if fault := _fault(code, command.output(), place):
                wrong.append(f"{number}: {fault}")
                continue
            subprocess.run(["mount", "-o", f"remount,size={3 * size + 2**22}", place], check=True)
            start(*(("resume", run) if (run / "config.yaml").exists() else ("run", config, "-o", run))).finish()
            try:
                assert_same(whole, run)
            except AssertionError as error:
                wrong.append(f"{number}: {error}")
    tally("sizes of a disk", name, steps, wrong)


def unchecked(rank: int) -> None:
    """Leave the check before a stage out, so that the disk is full in the middle of it."""
    from holdfast.stream import run

    run.require_stage_room = lambda *_: None  # type: ignore[assignment]


def fill_at(rank: int, *, run: str, event: int, log: str) -> None:
    """Let the disk be full from a change of the run's files on: whatever makes a file or writes one fails."""
    unchecked(rank)
    seen = 0

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if name not in FILE_EVENTS or name in ("os.remove", "os.rmdir", "shutil.rmtree"):
            return
        path = arguments[0]
        if not isinstance(path, str | os.PathLike) or not f"{os.fspath(path)}/".startswith(f"{run}/"):
            return
        if name == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        seen += 1
        if not event:
            with open(log, "a") as lines:
                lines.write(f"{name} {re.sub('[.][0-9a-f]{8}', '', os.path.relpath(path, run))}\n")
        elif seen >= event:
            raise OSError(28, "No space left on device", os.fspath(path))

    sys.addaudithook(hook)


@pytest.mark.torture
def test_each_kind_of_write_may_fail(tmp_path: Path) -> None:
    config, log = write_config(tmp_path, "grpo"), tmp_path / "writes.txt"
    start(
        "run",
        config,
        "-o",
        tmp_path / "whole",
        before=partial(fill_at, run=str(tmp_path / "whole"), event=0, log=str(log)),
    ).finish()
    kinds: dict[str, int] = {}
    for number, line in enumerate(log.read_text().splitlines(), 1):
        kinds.setdefault(re.sub(r"\d+", "N", line), number)
    chosen = spread(sorted(kinds.values()), 3)
    wrong = []
    for event in chosen:
        run = tmp_path / "run"
        command = start("run", config, "-o", run, before=partial(fill_at, run=str(run), event=event, log=str(log)))
        code, output = command.join()[0], command.output()
        lines = [line for line in output.splitlines() if line.startswith("holdfast: error: ")]
        if code != 2 or len(lines) != 1 or "Traceback" in output or "No space left" not in lines[0]:
            wrong.append(f"write {event}: exit code {code}: {output}")
        else:
            start(*(("resume", run) if (run / "config.yaml").exists() else ("run", config, "-o", run))).finish()
            assert_same(tmp_path / "whole", run)
        shutil.rmtree(run, ignore_errors=True)
    tally("writes to a full disk", "grpo", len(chosen), wrong)
