"""`holdfast.stream.check.rewards`: what the first samples mean for a recipe that learns from rewards."""

from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast import api
from holdfast.config.load import load_config
from holdfast.config.settings import RunConfig
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.check.rewards import RewardCheck, learns_from_rewards
from holdfast.stream.check.trial import try_batches
from holdfast.stream.run import Run
from small_runs import metrics_records, write_config


def _check(folder: Path, verifier: str, recipe: Any) -> list[dict[str, Any]]:
    path = write_config(folder, "grpo", recipe=recipe)
    changes = {"tasks.plus-0.verifier": f"judges:{verifier}", "tasks.plus-1.verifier": "judges:by_letters"}
    result = api.check(path, items=6, **changes)
    for each in result["rewards"]:
        assert (each["sentence"] in result["warnings"]) == each["is_problem"]
    return list(result["rewards"])


GRPO = {"name": "grpo", "num_generations": 3}
SDPO = {"name": "sdpo", "num_generations": 3}


@pytest.mark.parametrize("recipe", [GRPO, SDPO, {"name": "rft"}, {**GRPO, "beta": 0.1}, {"name": "sd_zero"}], ids=str)
def test_never_a_success_is_nothing_to_learn_from(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """A KL to the base holds the model, and teaches nothing."""
    never, sometimes = _check(tmp_path, "never", recipe)
    assert (never["success"], never["mean_reward"], never["with_signal"]) == (0, 0, 0)
    assert never["is_problem"]
    assert "Never a success" in never["sentence"]
    assert 0 < sometimes["success"] < 1
    assert sometimes["with_signal"] > 0


@pytest.mark.parametrize("recipe", [GRPO, {**GRPO, "variant": "dr_grpo"}], ids=str)
def test_always_a_success_is_nothing_left_to_learn(tmp_path: Path, recipe: dict[str, Any]) -> None:
    always, _ = _check(tmp_path, "always", recipe)
    assert (always["success"], always["mixed"], always["with_signal"]) == (1, 0, 0)
    assert "Always a success: there is nothing left to learn" in always["sentence"]
    assert always["is_problem"]


def test_feedback_is_something_to_learn_from_without_any_success(tmp_path: Path) -> None:
    told, _ = _check(tmp_path, "never_and_why", SDPO)
    assert (told["success"], told["with_signal"]) == (0, 1)
    assert "sdpo learns only from what else 100% of the groups have" in told["sentence"]


def test_graded_rewards_that_differ_are_something_to_learn_from(tmp_path: Path) -> None:
    graded, _ = _check(tmp_path, "by_length", GRPO)
    assert graded["success"] == 0
    assert 0 < graded["mean_reward"] < 0.9
    assert graded["mixed"] == graded["with_signal"] > 0
    assert "Never a success, but rewards are graded: " in graded["sentence"]
    assert not graded["is_problem"]


def test_a_success_in_every_sample_may_leave_a_signal(tmp_path: Path) -> None:
    always, _ = _check(tmp_path, "always", SDPO)
    assert (always["success"], always["with_signal"], always["is_problem"]) == (1, 1, True)
    assert "Always a success: 100% of the groups still give a signal. Take harder prompts" in always["sentence"]


def test_it_counts_what_training_logs_of_its_first_batch(tmp_path: Path) -> None:
    """The first stage's samples are those of the run."""
    path = write_config(tmp_path, "grpo", recipe=GRPO, train={"steps": 1, "prompts_per_step": 4})
    holdfast.run(path, tmp_path / "run")
    first = metrics_records(tmp_path / "run")[0]
    run = Run(load_config(path, RunConfig), RunDirectory(tmp_path / "other"))
    run.prepare()
    trial = try_batches(run, 1, 4)
    assert len(trial.groups) == 4
    (check,) = [each for each in api.check(path, items=4)["rewards"] if each["task"] == "plus-0"]
    assert check["samples"] == 12
    assert check["mean_reward"] == pytest.approx(first["reward"])
    assert check["with_signal"] == pytest.approx(1 - first["zero_variance_fraction"])


def test_recipes_without_rewards_have_no_such_section(tmp_path: Path) -> None:
    assert "rewards" not in api.check(write_config(tmp_path, "sdft with LoRA"), items=4)


def test_which_recipes_learn_from_rewards() -> None:
    from holdfast.recipes import RECIPES

    learning = {name for name, kind in RECIPES.items() if learns_from_rewards(kind())}
    assert {"grpo", "sdpo", "rft", "npo", "correct_only"} <= learning
    assert not {"sft", "sdft", "opsd", "anchored", "kl_sft"} & learning


@pytest.mark.parametrize("success", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("signal", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("mixed", [None, 0.0, 0.5])
def test_every_outcome_has_a_sentence(success: float, signal: float, mixed: float | None) -> None:
    check = RewardCheck("own", "grpo", 0.7, 20, 160, 1.0, success, success, mixed, signal)
    sentence = check.sentence()
    assert sentence.startswith(f"own: {round(160 * success)} of 160 samples at temperature 0.7 succeed")
    assert ("rewards differ" in sentence) == (mixed is not None)
    assert check.is_problem == (success != 0.4 or signal == 0)
    assert ("Never" in sentence, "Always" in sentence) == (success == 0, success == 1)
