"""`holdfast.stream.budget`: batches larger than the data, and a warmup longer than a stage."""

from pathlib import Path

import pytest

from commands import LAB_RUN, Commands
from holdfast.config.settings import TrainSettings
from holdfast.stream.budget import batch_problems, warmup_problems


@pytest.mark.parametrize(("per_step", "prompts", "odd"), [(16, 16, False), (16, 15, True), (1, 1, False), (2, 1, True)])
def test_a_step_of_more_prompts_than_there_are_is_odd(per_step: int, prompts: int, odd: bool) -> None:
    problems = batch_problems(TrainSettings(prompts_per_step=per_step), {"own": prompts})
    assert len(problems) == odd
    assert all(
        f"own: train.prompts_per_step is {per_step}, but there {'is' if prompts == 1 else 'are'} only {prompts} " in p
        for p in problems
    )


@pytest.mark.parametrize(("warmup", "steps", "odd"), [(5, [5, 5], False), (5, [4, 9], True), (0, [1], False)])
def test_a_warmup_that_does_not_end_is_odd(warmup: int, steps: list[int], odd: bool) -> None:
    problems = warmup_problems(TrainSettings(warmup_steps=warmup), steps)
    assert len(problems) == odd
    assert all(
        "1 of 2 stages have fewer optimizer steps, so the learning rate there reaches only 80%" in p for p in problems
    )


@pytest.mark.parametrize("name", ["run", "check"])
def test_run_and_check_say_so(command: Commands, tmp_path: Path, name: str) -> None:
    config = command.config(LAB_RUN, **{"train.prompts_per_step": 40, "train.warmup_steps": 50, "train.steps": 1})
    where = ("--output-dir", tmp_path / "run") if name == "run" else ("--items", "2")
    outcome = command(name, config, *where)
    assert outcome.code == 0, outcome.err
    said = " ".join((outcome.out + outcome.err).split())
    assert "train.prompts_per_step is 40, but there are only 32 training prompts" in said
    assert "train.warmup_steps is 50" in said


def test_a_first_try_of_a_few_steps_is_only_told_by_check(command: Commands, tmp_path: Path) -> None:
    config = command.config(LAB_RUN, tasks=["lab:facts"])
    assert command("run", config, "--quiet", "--output-dir", tmp_path / "run").err == ""
    assert "train.warmup_steps is 5" in command("check", config, "--items", "2").out
