"""Time and memory of one side in its own process, and two sides that take turns.

Time is measured on alternating repeats: ours, the peer, ours, the peer. Memory is the peak of the resident size (on
CUDA, of allocated tensors) in one more repeat, minus the size before it. Before it, there are only weights, teacher,
optimizer and batch. Gradients are allocated in the repeat and count on both sides.
"""

import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import torch

ROOT = Path(__file__).parents[2]


class Side(Protocol):
    """One side of a comparison, built and ready.

    A side may also have `check`, for values that take long to compute. It is called once, after the last repeat.
    """

    def run(self) -> dict[str, float]:
        """Do the work once. Returns values that must agree between the sides (`loss`, …), and other metrics."""
        ...


class BenchmarkError(Exception):
    """A side could not be built or run; the message says why."""


def seconds_of(side: Side, device: torch.device) -> tuple[float, dict[str, float]]:
    """Wall-clock seconds of one repeat, and the values that it returned."""
    gc.collect()
    _synchronize(device)
    start = time.perf_counter()
    values = side.run()
    _synchronize(device)
    return time.perf_counter() - start, values


def peak_bytes(work: Callable[[], Any], device: torch.device) -> int | None:
    """The peak memory of `work` in bytes, beyond the memory in use before it; None if the system cannot measure it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        # First return freed memory to the system: a reuse of it would not raise the resident size.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _resident("VmRSS")
    except OSError:
        return None
    work()
    return _resident("VmHWM") - before


def _resident(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {key} in /proc/self/status")


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class Worker:
    """A process that builds and runs one side on command; see `benchmarks.engine.worker`."""

    def __init__(self, *, threads: int) -> None:
        # Threads of the waiting side must not spin, or they take time from the other side.
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "passive",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "TRL_EXPERIMENTAL_SILENCE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.engine.worker"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process. If it waits for a command, it stops at once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def send(self, command: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchmarkError("the process has ended") from None

    def receive(self) -> dict[str, Any]:
        """The answer to the oldest command without an answer.

        Raises:
            BenchmarkError: the side failed, or its process ended, for example because memory ran out.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise BenchmarkError(f"the process ended with code {code}; there may be too little memory")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchmarkError(answer["error"])
        return answer

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        self.send(command, **arguments)
        return self.receive()


@dataclass
class Measured:
    """One side's repeats.

    Attributes:
        seconds: of every repeat.
        peak_bytes: beyond weights, teacher, optimizer and batch; None if the system cannot measure it.
        values: of the last repeat.
    """

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    values: dict[str, float] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        return {
            "seconds": round(statistics.median(self.seconds), 5),
            "seconds_of_repeats": [round(s, 5) for s in self.seconds],
            "peak_bytes": self.peak_bytes,
            **self.values,
        }


def alternate(workers: Sequence[Worker], jobs: Sequence[dict[str, Any]], *, repeats: int) -> list[Measured]:
    """Build one job in every worker, warm up, time alternating repeats, and measure memory once.

    Raises:
        BenchmarkError: a side failed.
    """
    for worker, job in zip(workers, jobs, strict=True):
        worker.send("build", **job)
    for worker in workers:
        worker.receive()
    measured = [Measured() for _ in workers]
    for worker in workers:
        worker.ask("run")
    for _ in range(repeats):
        for worker, side in zip(workers, measured, strict=True):
            answer = worker.ask("run")
            side.seconds.append(answer["seconds"])
            side.values = answer["values"]
    for worker, side in zip(workers, measured, strict=True):
        side.values |= worker.ask("check")["values"]
        side.peak_bytes = worker.ask("memory")["bytes"]
        worker.ask("drop")
    return measured


class Pair:
    """A process for each side, shared by all comparisons of a part, and restarted after a failure.

    Memory that a comparison does not free is resident before the next one, so it does not count there.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def measure(self, jobs: Sequence[dict[str, Any]], *, repeats: int) -> list[Measured]:
        """`alternate` over the two jobs."""
        if not self._workers:
            self._workers = [Worker(threads=self._threads) for _ in jobs]
        try:
            return alternate(self._workers, jobs, repeats=repeats)
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        for worker in self._workers:
            worker.close()
        self._workers = []


def ratio(of: Measured, to: Measured) -> tuple[float, list[float]]:
    """The ratio of seconds: its median over repeats, each with its neighbor in time, and its range [low, high]."""
    ratios = [a / b for a, b in zip(of.seconds, to.seconds, strict=True)]
    return statistics.median(ratios), [min(ratios), max(ratios)]


def relative_difference(a: float, b: float) -> float:
    """|a − b| / max(|a|, |b|); 0 if both are 0."""
    largest = max(abs(a), abs(b))
    return abs(a - b) / largest if largest else 0.0
