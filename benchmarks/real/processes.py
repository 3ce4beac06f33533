"""Jobs in processes beside each other. Each has one thread, so two cores do the work of two runs."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import RunError


@dataclass(frozen=True)
class Job:
    """A Python module with arguments, and the file that its output is added to."""

    name: str
    module: str
    arguments: tuple[str, ...]
    log: Path


def run_jobs(jobs: Sequence[Job], processes: int, done: Callable[[Job, float], None]) -> None:
    """Run jobs in their order, so many at a time.

    Args:
        done: called after each job, with its seconds.

    Raises:
        RunError: a job failed. The others have been asked to stop, and have saved their work.
    """
    waiting = list(jobs)
    running: list[tuple[Job, subprocess.Popen[bytes], float]] = []
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                job = waiting.pop(0)
                running.append((job, _start(job), time.monotonic()))
            for entry in list(running):
                job, process, started = entry
                if (code := process.poll()) is None:
                    continue
                running.remove(entry)
                if code:
                    raise RunError(f"{job.name} failed: {_last_line(job.log)}", where=str(job.log))
                done(job, time.monotonic() - started)
            time.sleep(0.1)
    finally:
        for _, process, _ in running:
            process.terminate()
        for _, process, _ in running:
            process.wait()


def _start(job: Job) -> "subprocess.Popen[bytes]":
    """Start a job in a session of its own: Ctrl-C reaches it as one request to stop, from here."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", job.module, *job.arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it wrote nothing")
