"""`holdfast.stream.check.teacher`: the verdict on a teacher, in numbers and in words."""

from dataclasses import replace
from pathlib import Path

import pytest

from holdfast import api
from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig
from holdfast.data.example import Example, Verdict
from holdfast.lab.tasks import lab_task
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.check.teacher import TeacherCheck, check_teacher
from holdfast.stream.check.trial import Trial, try_batches
from holdfast.stream.run import Run
from small_runs import write_config


@pytest.fixture(scope="module")
def lab() -> tuple[Run, Trial]:
    """A run with a teacher that follows the demonstration in its prompt, and 20 prompts of it."""
    config = parse_config(
        {
            "tasks": ["lab:calculation"],
            "suites": [],
            "recipe": {"name": "sdft", "num_loss_tokens_to_skip": 0},
            "train": {"prompts_per_step": 4, "max_prompt_length": 160, "max_completion_length": 40},
        },
        RunConfig,
    )
    run = Run(config, RunDirectory("unused"))
    run.prepare()
    return run, try_batches(run, 1, 20)


def _as_demonstrated(example: Example, completion: str) -> Verdict:
    """Only an answer with the demonstration's result is right. The student knows it at best by chance."""
    return Verdict(float(lab_task("calculation").verify(example, completion).reward == 1))


def test_a_teacher_that_is_right_where_the_student_is_not_is_better(lab: tuple[Run, Trial]) -> None:
    run, trial = lab
    found = check_teacher(run, replace(trial, task=replace(trial.task, verifier=_as_demonstrated)))
    assert found.teacher == 1
    assert found.student < 0.5
    assert not found.graded
    assert found.verdict == "better"
    assert found.ci95 is not None
    low, high = found.ci95
    assert 0.2 < low < 1 - found.student < high <= 1
    assert found.sentence() == (
        f"calculation: the teacher scores 100%, the student {found.student:.0%}. The teacher is better (95% CI of the "
        f"difference {100 * low:+.0f} to {100 * high:+.0f} points; 20 of 20 prompts have a teacher)"
    )


def test_a_teacher_that_is_wrong_where_the_student_is_right_is_worse(lab: tuple[Run, Trial]) -> None:
    def otherwise(example: Example, completion: str) -> Verdict:
        return Verdict(1 - _as_demonstrated(example, completion).reward)

    run, trial = lab
    found = check_teacher(run, replace(trial, task=replace(trial.task, verifier=otherwise)))
    assert (found.verdict, found.teacher) == ("worse", 0)
    assert found.student > 0.5
    assert "The teacher is WORSE" in found.sentence()


def test_a_teacher_as_good_as_the_student_is_not_shown_to_be_better(lab: tuple[Run, Trial]) -> None:
    run, trial = lab
    for reward in (0.0, 0.5, 1.0):
        task = replace(trial.task, verifier=lambda example, completion, reward=reward: Verdict(reward))
        found = check_teacher(run, replace(trial, task=task))
        assert (found.verdict, found.p) == ("not shown", 1)
        assert "NOT shown to be better" in found.sentence()
        assert ("take harder prompts" in found.sentence()) == (reward == 1)


def test_graded_rewards_are_compared_and_called_rewards(lab: tuple[Run, Trial]) -> None:
    """A verifier that never gives the full reward was "0% and 0%"."""

    def half(example: Example, completion: str) -> Verdict:
        return Verdict(0.1 + 0.5 * _as_demonstrated(example, completion).reward)

    run, trial = lab
    found = check_teacher(run, replace(trial, task=replace(trial.task, verifier=half)))
    assert found.graded
    assert found.teacher == pytest.approx(0.6)
    assert 0.1 <= found.student < 0.35
    assert found.verdict == "better"
    said = f"the teacher's mean reward is 0.60, the student's {found.student:.2f}. The teacher is better"
    assert said in found.sentence()


def test_a_task_that_nothing_judges_is_not_measured(lab: tuple[Run, Trial]) -> None:
    run, trial = lab
    found = check_teacher(run, replace(trial, task=replace(trial.task, verifier=None)))
    assert found == TeacherCheck("calculation", "not measured", 20, 0)
    assert "nothing judges an answer" in found.sentence()


def test_without_a_success_a_teacher_that_shows_successes_has_nothing_to_show(tmp_path: Path) -> None:
    path = write_config(tmp_path, "sdpo")
    found = api.check(path, items=4, **{"tasks.plus-0.verifier": "judges:never"})["teacher"]
    assert found[0]["verdict"] == "no teacher"
    assert "0 of 4 prompts have a teacher" in found[0]["sentence"]


def test_a_teacher_plays_episodes_too(tmp_path: Path) -> None:
    path = write_config(tmp_path, "sdft with LoRA", train={"max_completion_length": 60, "max_prompt_length": 300})
    tasks = [
        {"name": "talk", "train": str(tmp_path / "0.jsonl"), "environment_factory": "judges:Talkative", "max_turns": 2}
    ]
    (found,) = api.check(path, items=3, tasks=tasks)["teacher"]
    assert found["verdict"] in ("better", "worse", "not shown")


def test_a_teacher_that_scales_advantages_is_a_teacher_too(tmp_path: Path) -> None:
    """RLSD's teacher gives no divergence. It was "0 prompts have a teacher"."""
    path = write_config(tmp_path, "grpo", recipe={"name": "rlsd", "num_generations": 3})
    changes = {f"tasks.plus-{n}.verifier": "judges:by_letters" for n in (0, 1)}
    for found in api.check(path, items=6, **changes)["teacher"]:
        assert found["verdict"] in ("better", "worse", "not shown")
        assert found["prompts_with_teacher"] > 0


def test_a_teacher_that_weights_the_tokens_of_a_demonstration_is_a_teacher_too() -> None:
    """SORT's gives neither a divergence nor an advantage."""
    config = {
        "tasks": ["lab:steps"],
        "suites": [],
        "recipe": {"name": "sort", "num_generations": 2},
        "train": {"prompts_per_step": 4, "max_prompt_length": 160, "max_completion_length": 60},
    }
    run = Run(parse_config(config, RunConfig), RunDirectory("unused"))
    run.prepare()
    found = check_teacher(run, try_batches(run, 1, 4))
    assert found.prompts_with_teacher > 0


@pytest.mark.parametrize(("graded", "expected"), [(True, "+0.00 to +0.89"), (False, "+0 to +89")])
def test_no_end_of_an_interval_is_minus_zero(graded: bool, expected: str) -> None:
    check = TeacherCheck("own", "not shown", 5, 5, 1.0, 0.2, graded, [-0.0004, 0.89], 0.06)
    assert f"95% CI of the difference {expected}" in check.sentence()
