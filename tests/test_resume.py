"""A run killed at any moment goes on with `resume` and ends as one never interrupted, bit for bit.

Commands run in processes of their own, which are killed with SIGKILL as soon as their run directory shows that a
certain point has been reached; where the kill then falls is up to the machine. The processes are forked from one that
has the libraries loaded already, which saves the seconds that each start would take; one test starts a real command.
"""

import json
import multiprocessing
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import LAB_RUN

STREAM: Mapping[str, Any] = {
    **LAB_RUN,
    "train": {**LAB_RUN["train"], "steps": 6, "save_steps": 2},
    "eval": {**LAB_RUN["eval"], "probe_steps": 3, "probe_items": 8},
}
LORA = {"path": "lab", "lora": {"r": 4}}
RUNS: Mapping[str, Mapping[str, Any]] = {
    "sdpo": {"recipe": {"name": "sdpo", "num_generations": 4, "stage_start": "keep"}},
    "grpo": {"recipe": {"name": "grpo", "num_generations": 4, "num_iterations": 2, "beta": 0.1}},
    "sdft with LoRA": {"recipe": {"name": "sdft", "num_loss_tokens_to_skip": 0}, "model": LORA},
}
COMPARISON = {
    **{key: value for key, value in LAB_RUN.items() if key != "recipe"},
    "recipes": ["sft", {"name": "sdft", "num_loss_tokens_to_skip": 0}],
    "seeds": [0],
    "train": {**LAB_RUN["train"], "steps": 2, "save_steps": 1},
}
PATIENCE = 900
"""Seconds after which a process that makes no progress is given up."""

Point = tuple[str, int]
"""A pattern and a number: the point where so many paths match it or, for logs, where those have so many lines."""


def _command(arguments: Sequence[str], output: str) -> None:
    """Run one command in a forked process, its standard error in a file."""
    from holdfast.cli import main

    with open(output, "w") as file:
        sys.stderr = sys.stdout = file
        sys.exit(main(arguments))


@pytest.fixture(scope="module")
def server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["holdfast.cli", "holdfast.stream.compare", "transformers.models.qwen3"])
    return context


def _start(server: ForkServerContext, *arguments: str | Path) -> tuple[BaseProcess, Path]:
    output = Path(arguments[-1]).with_suffix(".err")
    process = server.Process(target=_command, args=([str(a) for a in arguments], str(output)))
    process.start()
    return process, output


def _finish(server: ForkServerContext, *arguments: str | Path) -> str:
    process, output = _start(server, *arguments)
    process.join(PATIENCE)
    said = output.read_text()
    assert process.exitcode == 0, said
    return said


def _reached(run: Path, point: Point) -> bool:
    pattern, count = point
    found = list(run.glob(pattern))
    if pattern.endswith(".jsonl"):
        return sum(file.read_bytes().count(b"\n") for file in found) >= count
    return len(found) >= count


def _kill_at(process: BaseProcess | subprocess.Popen[bytes], run: Path, point: Point) -> None:
    """Kill a process with SIGKILL once its run has reached a point; one that ends before that has simply ended."""
    alive: Callable[[], bool] = process.is_alive if isinstance(process, BaseProcess) else lambda: process.poll() is None
    deadline = time.monotonic() + PATIENCE
    while alive() and not _reached(run, point):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    if isinstance(process, BaseProcess):
        process.join()
    else:
        process.wait()


def _config(folder: Path, data: Mapping[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(dict(data)))
    return path


def _without_times(value: Any) -> Any:
    """Plain data without what differs between any two runs: seconds, dates and the command."""
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in ("seconds", "created", "command")}
    return [_without_times(each) for each in value] if isinstance(value, list) else value


def _left_behind(run: Path) -> dict[str, Any]:
    """All in a run directory that must not depend on interruptions: weights to the bit, numbers without times."""
    found: dict[str, Any] = {}
    for file in sorted(run.rglob("*")):
        name = str(file.relative_to(run))
        if file.is_dir() or file.name in ("report.html", "checksums.json"):
            continue
        if file.suffix == ".jsonl":
            found[name] = [_without_times(json.loads(line)) for line in file.read_text().splitlines()]
        elif file.name == "position.json":
            position = json.loads(file.read_text())
            found[name] = {key: position[key] for key in ("stage", "step")}  # sizes of logs vary with the times in them
        elif file.suffix == ".json" and "models" not in name:
            found[name] = _without_times(json.loads(file.read_text()))
        else:
            found[name] = file.read_bytes()
    return found


def _assert_same(run: Path, other: Path) -> None:
    first, second = _left_behind(run), _left_behind(other)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


@pytest.fixture(scope="module")
def uninterrupted(server: ForkServerContext, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a finished run of `RUNS`, made when first asked for."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp("whole")
            _finish(server, "run", _config(folder, {**STREAM, **RUNS[name]}), "-o", folder / "run")
            made[name] = folder / "run"
        return made[name]

    return make


def _points(seed: int) -> Iterator[Point]:
    """Points of a run in the order it reaches them: a step; a checkpoint, a model, an evaluation being written."""
    rng = random.Random(seed)
    yield rng.choice([("config.yaml", 1), ("manifest.json", 1), ("evals/*", 1), ("metrics.jsonl", 1)])
    yield rng.choice([("metrics.jsonl", 3), ("checkpoints/*", 1), ("checkpoints/*", 2)])
    yield rng.choice([("models/*stage-1*", 1), ("models/stage-1", 1), ("evals/stage-1.json", 1), ("metrics.jsonl", 6)])
    yield ("metrics.jsonl", rng.randrange(7, 12))
    yield rng.choice([("models/*stage-2*", 1), ("evals/stage-2.json", 1), ("metrics.jsonl", 12)])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), [("sdpo", 1), ("grpo", 2), ("sdft with LoRA", 3)])
def test_killed_runs_end_as_if_never_interrupted(
    server: ForkServerContext, uninterrupted: Callable[[str], Path], tmp_path: Path, name: str, seed: int
) -> None:
    run = tmp_path / "run"
    arguments: tuple[str | Path, ...] = ("run", _config(tmp_path, {**STREAM, **RUNS[name]}), "-o", run)
    kills = 0
    for point in _points(seed):
        process, _ = _start(server, *arguments)
        _kill_at(process, run, point)
        kills += process.exitcode == -9
        arguments = ("resume", run)
    assert kills >= 3
    _finish(server, "resume", run)
    _assert_same(uninterrupted(name), run)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_passed_over(
    server: ForkServerContext, uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted("sdpo"), run)
    before, newest = sorted((run / "checkpoints").iterdir())
    weights = newest / "policy.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    weights.write_bytes(damaged)
    (run / "evals" / "stage-2.json").unlink()
    said = _finish(server, "resume", run)
    assert f"holdfast: warning: {newest}: damaged checkpoint, policy.safetensors has changed; going on from" in said
    assert before.exists()
    _assert_same(uninterrupted("sdpo"), run)


@pytest.mark.slow
def test_a_killed_comparison_goes_on(server: ForkServerContext, tmp_path: Path) -> None:
    config = _config(tmp_path, COMPARISON)
    _finish(server, "compare", config, "-o", tmp_path / "whole")
    arguments: tuple[str | Path, ...] = ("compare", config, "-o", tmp_path / "run")
    points: list[Point] = [
        ("runs/sft-s0-o0/metrics.jsonl", 3),
        ("runs/sdft-s0-o0/*.yaml", 1),
        ("runs/*/metrics.jsonl", 6),
    ]
    for point in points:
        process, _ = _start(server, *arguments)
        _kill_at(process, tmp_path / "run", point)
        arguments = ("resume", tmp_path / "run")
    _finish(server, "resume", tmp_path / "run")
    _assert_same(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_a_real_command_is_killed_and_resumed(uninterrupted: Callable[[str], Path], tmp_path: Path) -> None:
    run, whole = tmp_path / "run", uninterrupted("sdpo")
    config = _config(tmp_path, {**STREAM, **RUNS["sdpo"]})
    holdfast = [sys.executable, "-m", "holdfast"]
    with subprocess.Popen([*holdfast, "run", config, "-o", run], stderr=subprocess.DEVNULL) as process:
        _kill_at(process, run, ("metrics.jsonl", 5))
    assert process.returncode == -9
    subprocess.run([*holdfast, "resume", run], check=True, capture_output=True)
    _assert_same(whole, run)
