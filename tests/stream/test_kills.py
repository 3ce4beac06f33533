"""`holdfast.stream.run`: runs that are killed at random points and resumed end like uninterrupted ones, bit for bit.

A process kills itself with SIGKILL at a random tensor operation of a step or an evaluation, or when it opens, renames,
creates or removes something in its run directory. The latter is in the middle of a checkpoint, a model folder or a log.
Every draw is seeded, and the place of every kill is printed.
"""

import os
import random
import re
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cases import amount
from guarded_runs import guarded_config
from interruptions import count_in
from kills import KILLS, kill_again_and_again
from processes import start
from small_runs import RUNS, assert_same, write_config

pytestmark = pytest.mark.processes


@pytest.mark.torture
@pytest.mark.parametrize("name", [name for name in RUNS if amount(*KILLS[name])])
def test_a_run_killed_many_times_ends_like_an_uninterrupted_one(tmp_path: Path, name: str) -> None:
    config = write_config(tmp_path, name)
    start("run", config, "-o", tmp_path / "whole").finish()
    kill_again_and_again(tmp_path, config, name)


@pytest.mark.torture
def test_a_run_of_two_processes_ends_when_one_is_killed_and_resumes(tmp_path: Path) -> None:
    config = write_config(tmp_path, "grpo")
    start("run", config, "-o", tmp_path / "whole", size=2).finish()
    kill_again_and_again(tmp_path, config, "two processes", size=2)


@pytest.mark.torture
def test_a_run_that_is_rolled_back_ends_the_same_however_often_it_is_killed(tmp_path: Path) -> None:
    config = guarded_config(tmp_path)
    start("run", config, "-o", tmp_path / "whole").finish()
    run = kill_again_and_again(tmp_path, config, "a run that its guard rolls back")
    assert (run / "discarded.jsonl").exists()


@pytest.mark.torture
def test_a_comparison_ends_the_same_however_often_it_is_killed(tmp_path: Path) -> None:
    config = write_config(tmp_path, "grpo", recipe=None, recipes=["sft", RUNS["grpo"]["recipe"]], train={"steps": 3})
    start("compare", config, "-o", tmp_path / "whole").finish()
    kill_again_and_again(tmp_path, config, "a comparison", command="compare")


@pytest.mark.parametrize(("name", "size"), [("grpo", 1), ("sdft with LoRA", 1), ("sdpo", 2)])
def test_a_run_asked_to_stop_saves_and_resumes(tmp_path: Path, name: str, size: int) -> None:
    config = write_config(tmp_path, name, train={"save_steps": 100})
    start("run", config, "-o", tmp_path / "whole", size=size).finish()
    rng = random.Random(name)
    run = tmp_path / "run"
    arguments: tuple[str | Path, ...] = ("run", config, "-o", run)
    steps: list[int] = []
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGTERM, 143)):
        log, last = tmp_path / "signal.txt", rng.randrange(10500, 14000)
        asked = partial(count_in, of=size - 1, kind="operation", run=str(run), last=last, log=str(log), number=number)
        command = start(*arguments, size=size, before=asked)
        assert set(command.join()) == {code}, command.output()
        output = [line for line in command.output().splitlines() if line.startswith("holdfast: ")]
        assert output == [f"holdfast: stopped; resume with `holdfast resume {run}`"]
        saved = sorted(run.glob("checkpoints/[0-9]*"))
        steps.append(int(saved[-1].name) if saved else 0)
        assert _steps_taken(run) == steps[-1]
        print(f"{log.read_text()}; saved after step {steps[-1]}")
        arguments = ("resume", run)
    assert steps == sorted(steps)
    assert steps[-1] > 0
    start("resume", run, size=size).finish()
    assert_same(tmp_path / "whole", run)


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    config = write_config(tmp_path, "grpo")
    command = start("run", config, "-o", tmp_path / "run", before=interrupt_twice)
    assert command.join() == [130]
    assert re.search("^holdfast: stopped", command.output(), re.MULTILINE)


@pytest.mark.parametrize("after", ["model", "evaluation"])
def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path: Path, after: str) -> None:
    config = write_config(tmp_path, "grpo", train={"save_steps": 100})
    start("run", config, "-o", tmp_path / "whole").finish()
    run = tmp_path / "run"
    killed = start("run", config, "-o", run, before=die_after_evaluation if after == "evaluation" else die_after_model)
    assert killed.join() == [-signal.SIGKILL]
    assert (run / "models" / "stage-1").exists()
    assert (run / "evals" / "stage-1.json").exists() == (after == "evaluation")
    assert not (run / "checkpoints").exists()
    start("resume", run).finish()
    assert_same(tmp_path / "whole", run)


def die_after_evaluation(rank: int) -> None:
    from holdfast.stream.checkpoints import RunCheckpoints

    RunCheckpoints.save = die  # type: ignore[method-assign, assignment]


def die_after_model(rank: int) -> None:
    from holdfast.stream.measuring import Measuring

    measured = Measuring.evaluate

    def evaluate(self: Measuring, stage: int) -> None:
        die() if stage else measured(self, stage)

    Measuring.evaluate = evaluate  # type: ignore[method-assign]


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt_twice(rank: int) -> None:
    from holdfast.stream.run import Run

    def both(self: Run, position: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    Run._execute = both  # type: ignore[method-assign]


def _steps_taken(run: Path) -> int:
    log = run / "metrics.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0
