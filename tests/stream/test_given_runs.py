"""`holdfast.stream.run`: runs on tasks and suites that are objects, killed, resumed, and resumed with other ones."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import holdfast
from commands import Commands
from holdfast.config.settings import CompareConfig
from holdfast.data.example import Example, Verdict
from holdfast.data.task import Suite, Task
from holdfast.errors import ConfigError, RunError
from holdfast.lab.tasks import lab_suite, lab_task
from holdfast.stream import compare as comparison
from small_runs import assert_same, metrics_records, without_times

CONFIG: dict[str, Any] = {
    "recipe": {"name": "grpo", "num_generations": 2},
    "train": {
        "steps": 2,
        "prompts_per_step": 2,
        "max_prompt_length": 160,
        "max_completion_length": 48,
        "save_steps": 1,
        "learning_rate": 1e-3,
    },
    "eval": {"max_items": 4, "kl_items": 2, "samples": 1, "drift_weights": 0, "response_items": 0},
}

WORLD = 6

KILLED = """
import test_given_runs as here
here.holdfast.run(here.CONFIG, {folder!r}, tasks=here.tasks(here.killing(after={after})), suites=here.suites())
"""


def tasks(verifier: Callable[[Example, str], Verdict] | None = None) -> list[Task]:
    """Two tasks of the lab as objects, with few examples."""
    found = []
    for name in ("facts", "tools"):
        task = lab_task(name, WORLD)
        found.append(replace(task, train=task.train[:8], test=task.test[:6], verifier=verifier or task.verifier))
    return found


def suites() -> list[Suite]:
    return [replace(lab_suite("old-facts", WORLD), name="own")]


def killing(after: int) -> Callable[[Example, str], Verdict]:
    """The tasks' verifier, which kills its process when it is called for the n-th time."""
    calls = 0

    def verify(example: Example, completion: str) -> Verdict:
        nonlocal calls
        calls += 1
        if calls == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return lab_task("facts", WORLD).verify(example, completion)

    return verify


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("given") / "whole"
    holdfast.run(CONFIG, folder, tasks=tasks(), suites=suites())
    return folder


def test_objects_run_as_the_same_data_by_name_does(whole: Path, tmp_path: Path) -> None:
    world = {"lab_settings": {"world": WORLD}}
    named = [{"name": name, "lab": name, "limit": 8, **world} for name in ("facts", "tools")]
    config = {**CONFIG, "suites": [{"name": "own", "lab": "old-facts", **world}]}
    # The objects have six test items and the named tasks eight, of which four are asked either way.
    holdfast.run({**config, "tasks": named}, tmp_path / "named")
    by_name, by_object = (metrics_records(path) for path in (tmp_path / "named", whole))
    assert [without_times(step) for step in by_name] == [without_times(step) for step in by_object]
    summaries = [json.loads((path / "summary.json").read_text()) for path in (tmp_path / "named", whole)]
    scores = [[{k: v["mean"] for k, v in e["scores"].items()} for e in s["evaluations"]] for s in summaries]
    assert scores[0] == scores[1]
    assert scores[0][0].keys() == {"facts", "tools", "own"}


@pytest.mark.processes
@pytest.mark.parametrize("after", [18, 30])
def test_a_killed_run_resumes_with_the_same_objects_bit_for_bit(whole: Path, tmp_path: Path, after: int) -> None:
    folder = tmp_path / "killed"
    paths = [str(Path(__file__).parent), *sys.path]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED.format(folder=str(folder), after=after)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (folder / "manifest.json").exists()
    assert len((folder / "metrics.jsonl").read_text().splitlines()) < 4
    holdfast.resume(folder, tasks=tasks(), suites=suites())
    assert_same(whole, folder)


def _stopped(folder: Path) -> None:
    """A run that stops before its first step is over."""

    def fail(example: Example, completion: str) -> Verdict:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        holdfast.run(CONFIG, folder, tasks=tasks(), suites=[replace(suites()[0], verifier=_late(fail))])


def _late(fail: Callable[[Example, str], Verdict]) -> Callable[[Example, str], Verdict]:
    """A verifier that judges the two answers by which it is tried before a run, and then fails."""
    calls = 0

    def verify(example: Example, completion: str) -> Verdict:
        nonlocal calls
        calls += 1
        return Verdict(0.0) if calls <= 2 else fail(example, completion)

    return verify


def test_a_stopped_run_resumes_with_the_same_objects_and_refuses_others(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    _stopped(folder)
    with pytest.raises(ConfigError, match="task 'facts' is an object that was passed in Python"):
        holdfast.resume(folder)
    with pytest.raises(ConfigError, match="suite 'own' is an object that was passed in Python"):
        holdfast.resume(folder, tasks=tasks())
    one, two = tasks()
    others = {
        "facts": [replace(one, train=[*one.train[1:], one.train[0]]), two],
        "tools": [one, replace(two, test=[replace(two.test[0], target="x"), *two.test[1:]])],
    }
    for name, changed in others.items():
        with pytest.raises(RunError, match=f"the data of '{name}' has changed since the run began"):
            holdfast.resume(folder, tasks=changed, suites=suites())
    holdfast.resume(folder, tasks=tasks(), suites=suites())
    assert_same(whole, folder)


def test_the_command_says_that_such_a_run_is_resumed_from_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "stopped"
    _stopped(folder)
    done = Commands(tmp_path, capsys)("resume", folder)
    assert done.code == 2
    assert done.err.startswith("holdfast: error: task 'facts' is an object that was passed in Python")
    assert "pass it from Python with tasks=[...], also to holdfast.resume" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_comparison_of_objects_measures_the_base_once_and_resumes(tmp_path: Path) -> None:
    """The items do not follow the seed, so all seeds share what was measured before the first stage."""
    config = {
        **CONFIG,
        "recipes": ["sft", {"name": "grpo", "num_generations": 2}],
        "seeds": [0, 1],
        "train": {**CONFIG["train"], "steps": 1},
    }
    del config["recipe"]
    summary = holdfast.compare(config, tmp_path / "c", tasks=tasks(), suites=suites())
    assert summary["status"] == "complete"
    runs = [tmp_path / "c" / run["path"] for run in summary["runs"]]
    first, *others = (json.loads((run / "evals" / "stage-0.json").read_text())["sets"] for run in runs)
    assert len(others) == 3
    assert all(other == first for other in others)
    (runs[-1] / "summary.json").unlink()
    with pytest.raises(ConfigError, match="is an object that was passed in Python"):
        holdfast.resume(tmp_path / "c")
    again = holdfast.resume(tmp_path / "c", tasks=tasks(), suites=suites())
    finals = [[run["summary"]["evaluations"][-1]["scores"] for run in each["runs"]] for each in (summary, again)]
    assert finals[0] == finals[1]


def test_objects_are_evaluated_and_checked(tmp_path: Path) -> None:
    found = holdfast.evaluate(CONFIG, tasks=tasks(), suites=suites())["sets"]
    assert found.keys() == {"facts", "tools", "own"}
    assert all(each["n"] == 4 for each in found.values())
    checked = holdfast.check(CONFIG, items=2, tasks=tasks(), suites=suites())
    assert [each["name"] for each in (*checked["tasks"], *checked["suites"])] == ["facts", "tools", "own"]


@pytest.mark.parametrize(
    ("changes", "follows"),
    [
        ({"tasks": ["lab:facts"]}, True),
        ({"tasks": [{"name": "facts", "lab": "facts", "lab_settings": {"world": 0}}]}, False),
        ({"tasks": [{"name": "own", "given": True}], "suites": ["lab:old-facts"]}, True),
        ({"tasks": [{"name": "own", "given": True}], "suites": []}, False),
    ],
)
def test_what_is_measured_before_the_first_stage_is_shared_by_seeds_of_the_same_items(
    changes: dict[str, Any], follows: bool
) -> None:
    config = CompareConfig.model_validate({"recipes": ["sft"], **changes})
    first, second = (comparison.tested_on(config, seed) for seed in (1, 2))
    assert (first != second) == follows
