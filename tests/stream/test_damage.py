"""`holdfast.stream.intact`: each file of a run × flip, cut, delete: named in one line, or made good."""

import os
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cases import spread, tally
from damage import fault_of_damage, ways_for
from processes import start
from small_runs import assert_same, write_config

pytestmark = pytest.mark.processes

SHORT = 4
"""Cases of a run in the short form."""

WHEN = {"early": (1, 2), "late": (2, 4), "complete": None}
"""Stage and step of the checkpoint after which the run is killed."""


def kill_after_checkpoint(rank: int, *, stage: int, step: int) -> None:
    """End this process with SIGKILL right after the checkpoint of a position."""
    from holdfast.stream.checkpoints import RunCheckpoints

    whole = RunCheckpoints.save

    def save(self: RunCheckpoints, position: Any, **how: Any) -> None:
        whole(self, position, **how)
        if (position.stage, position.step) == (stage, step):
            os.kill(os.getpid(), signal.SIGKILL)

    RunCheckpoints.save = save  # type: ignore[method-assign]


def _stopped(folder: Path, name: str, when: str) -> Path:
    """A whole run in `folder/whole`, and one that was killed in `folder/run`."""
    config, run = write_config(folder, name), folder / "run"
    start("run", config, "-o", folder / "whole").finish()
    if (place := WHEN[when]) is None:
        shutil.copytree(folder / "whole", run)
        return run
    command = start("run", config, "-o", run, before=partial(kill_after_checkpoint, stage=place[0], step=place[1]))
    assert command.join() == [-signal.SIGKILL], command.output()
    return run


@pytest.mark.torture
@pytest.mark.parametrize(
    ("name", "when"),
    [("grpo", "early"), ("grpo", "late"), ("grpo", "complete"), ("npo", "late"), ("sdft with LoRA", "late")],
)
def test_damage_is_named_or_made_good(tmp_path: Path, name: str, when: str) -> None:
    run = _stopped(tmp_path, name, when)
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.name != ".lock"]
    cases = [(str(path.relative_to(run)), way) for path in files for way in ways_for(path)]
    chosen = spread(cases, SHORT)
    wrong = [
        fault
        for file, way in chosen
        if (fault := fault_of_damage(tmp_path / "whole", run, tmp_path / "damaged", file, way))
    ]
    tally("damage to a file of a run", f"{name}, {when}", len(chosen), wrong)


def test_the_lost_evaluation_of_the_base_is_never_one_of_trained_weights(tmp_path: Path) -> None:
    run = _stopped(tmp_path, "grpo", "late")
    shutil.rmtree(run / "evals")
    refused = start("resume", run)
    assert refused.join() == [2], "the evaluation after the first stage cannot be made again"
    assert f"{run}/evals/stage-1.json: is missing" in refused.output()
    (run / "evals").mkdir()
    shutil.copyfile(tmp_path / "whole" / "evals" / "stage-1.json", run / "evals" / "stage-1.json")
    refused = start("resume", run)
    assert refused.join() == [2]
    assert f"{run}/evals/stage-1.json: has changed since the run wrote it" in refused.output(), "its times differ"
    (run / "checksums.json").unlink()
    output = start("resume", run).finish()
    assert f"warning: {run}/evals/stage-0.json: no such file; the base is measured again" in output
    assert_same(tmp_path / "whole", run)


@pytest.mark.parametrize(("when", "gone"), [("early", ["checkpoints"]), ("late", ["checkpoints", "checksums.json"])])
def test_a_run_whose_checkpoints_are_gone_does_not_start_again(tmp_path: Path, when: str, gone: list[str]) -> None:
    run = _stopped(tmp_path, "grpo", when)
    shutil.rmtree(run / "checkpoints")
    for name in gone[1:]:
        (run / name).unlink()
    before = (run / "metrics.jsonl").read_bytes()
    command = start("resume", run)
    assert command.join() == [2]
    assert f"error: {run}/checkpoints: the run's checkpoints are missing (restore it from a backup" in command.output()
    assert (run / "metrics.jsonl").read_bytes() == before
