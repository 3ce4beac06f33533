"""`holdfast.stream.rewriting`: runs on rewritten demonstrations, what they keep, and that nothing depends on a stop."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from holdfast import api
from holdfast.errors import ConfigError, RunError
from holdfast.stop import Stopped
from holdfast.stream.observer import Observer
from small_runs import assert_same, metrics_records

TEMPLATE = "{prompt}\n\nRepeat this: {demonstration}"


def config(**changes: Any) -> dict[str, Any]:
    return {
        "tasks": [{"name": name, "lab": name, "limit": 16} for name in ("calculation", "facts")],
        "suites": [],
        "recipe": {"name": "rewrite_sft", "template": TEMPLATE, "replay_ratio": 1.0},
        "train": {"steps": 3, "prompts_per_step": 4, "save_steps": 1, "warmup_steps": 0}
        | {"max_prompt_length": 160, "max_completion_length": 56},
        "eval": {"max_items": 4, "kl_items": 2, "demonstration_items": 4},
    } | changes


class StopsAfter(Observer):
    """Asks a run to stop after some optimizer steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step_done(self, numbers: Any) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    api.run(config(), path)
    return path


def texts(run: Path, stage: int) -> dict[str, str]:
    rewrites = json.loads((run / "rewritten" / f"stage-{stage}.json").read_text())["rewrites"]
    return {each["id"]: each["text"] for each in rewrites if each["text"] is not None}


def test_the_summary_says_what_became_of_the_demonstrations(whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text())
    first, second = summary["rewriting"]
    assert (first["stage"], first["task"], first["examples"]) == (1, "calculation", 16)
    assert (second["stage"], second["task"]) == (2, "facts")
    assert second["outcomes"]["rewritten"] >= 4
    assert sum(second["outcomes"].values()) == 16
    assert summary["budget"]["completions"] == first["completions"] + second["completions"]
    assert summary["budget"]["generated_tokens"] == first["generated_tokens"] + second["generated_tokens"]
    assert [each["task"] for each in summary["demonstrations"]] == ["calculation", "facts"]
    assert "Voice of the demonstrations" in (whole / "report.html").read_text()


def test_it_trains_on_the_rewritten_demonstrations(whole: Path) -> None:
    logged = [json.loads(line) for line in (whole / "rollouts.jsonl").read_text().splitlines()]
    written = texts(whole, 1) | texts(whole, 2)
    trained = {each["id"]: each["completion"] for each in logged if each["id"] in written}
    assert trained
    assert all(trained[name] == written[name] for name in trained)
    replayed = {e["id"] for e in logged if e["stage"] == 2 and e["id"] in texts(whole, 1)}
    assert replayed  # earlier tasks are replayed as they were trained on


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_stopped_run_resumes_to_the_bit(steps: int, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        api.run(config(), tmp_path / "run", observer=StopsAfter(steps))
    api.resume(tmp_path / "run")
    assert_same(whole, tmp_path / "run")


def test_a_run_that_was_killed_before_its_texts_were_kept_writes_them_again(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        api.run(config(), tmp_path / "run", observer=StopsAfter(1))
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    shutil.rmtree(tmp_path / "run" / "rewritten")
    (tmp_path / "run" / "checksums.json").unlink()  # it says that there has been a checkpoint
    api.resume(tmp_path / "run")
    assert_same(whole, tmp_path / "run")


def test_a_stage_under_way_does_not_go_on_without_its_texts(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        api.run(config(), tmp_path / "run", observer=StopsAfter(2))
    (tmp_path / "run" / "rewritten" / "stage-1.json").unlink()
    with pytest.raises(RunError, match=r"rewritten/stage-1.json: is missing, and no other checkpoint is complete"):
        api.resume(tmp_path / "run")


def test_in_the_first_stage_base_and_student_write_the_same(whole: Path, tmp_path: Path) -> None:
    recipe = {"name": "rewrite_sft", "template": TEMPLATE, "writer": "student", "replay_ratio": 1.0}
    changes = {"train": config()["train"] | {"learning_rate": 3e-3}}
    api.run(config(recipe=recipe, **changes), tmp_path / "student")
    assert texts(tmp_path / "student", 1) == texts(whole, 1)
    assert texts(tmp_path / "student", 2) != texts(whole, 2)  # it has learned the first task by then


def test_a_right_demonstration_never_leaves_the_loss_as_it_was(whole: Path, tmp_path: Path) -> None:
    api.run(config(recipe={"name": "replay", "replay_ratio": 1.0}), tmp_path / "sft")
    ours, foreign = metrics_records(whole), metrics_records(tmp_path / "sft")
    assert ours[0]["loss"] < foreign[0]["loss"] / 2  # its own voice is near


def test_a_task_that_nothing_judges_needs_the_other_check(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"calc {i}", "completion": f"{i}"}) + "\n" for i in range(8)))
    tasks = [{"name": "own", "train": str(path), "test_fraction": 0.25}]
    with pytest.raises(ConfigError, match="needs a reward"):
        api.run(config(tasks=tasks), tmp_path / "run")
    recipe = {"name": "rewrite_sft", "template": TEMPLATE, "check": "contains"}
    summary = api.run(config(tasks=tasks, recipe=recipe), tmp_path / "run")
    assert sum(summary["rewriting"][0]["outcomes"].values()) == 6
