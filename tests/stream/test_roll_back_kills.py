"""`holdfast.stream.rewind`: a kill within a roll-back, or a damaged checkpoint, does not change the result."""

import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import holdfast
from guarded_runs import guarded_config
from holdfast.config.load import load_config
from holdfast.config.settings import RunConfig
from holdfast.stream import checkpoints, rewind
from holdfast.stream.checkpoints import RunCheckpoints
from holdfast.stream.rewind import Rewind
from processes import start
from small_runs import assert_same

pytestmark = pytest.mark.processes

ACTIONS = ("keep_discarded", "write", "save", "remove_between", "cut")


def kill_after(rank: int, *, action: str) -> None:
    """From now on, send SIGKILL right after one action of a roll-back."""
    from holdfast.store.run_directory import RunDirectory
    from holdfast.stream.guard_actions import RunGuard

    owner, name = {
        "write": (RunGuard, "write"),
        "save": (RunCheckpoints, "save"),
        "cut": (RunDirectory, "cut"),
        "keep_discarded": (rewind, "keep_discarded"),
        "remove_between": (checkpoints, "remove_between"),
    }[action]
    whole = getattr(owner, name)

    def cut_short(*args: Any, **kwargs: Any) -> Any:
        whole(*args, **kwargs)
        if action != "save" or kwargs.get("went_back_to") is not None:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, cut_short)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that goes back in its first stage, and its configuration."""
    folder = tmp_path_factory.mktemp("roll-back")
    start("run", guarded_config(folder), "-o", folder / "whole").finish()
    return folder


def _killed(folder: Path, action: str, name: str) -> Path:
    run = folder / name
    command = start("run", folder / "config.yaml", "-o", run, before=partial(kill_after, action=action))
    assert command.join() == [-signal.SIGKILL], command.output()
    assert not (run / "models").exists(), "the first stage is under way"
    return run


@pytest.mark.parametrize("action", ACTIONS)
def test_killed_within_a_roll_back_it_resumes_to_the_same_result(folder: Path, action: str) -> None:
    run = _killed(folder, action, f"killed-after-{action}")
    start("resume", run).finish()
    assert_same(folder / "whole", run)


def test_a_damaged_newest_checkpoint_is_never_replaced_by_one_that_was_undone(folder: Path) -> None:
    run = _killed(folder, "cut", "damaged")
    newest = sorted((run / "checkpoints").iterdir())[-1]
    assert json.loads((newest / "position.json").read_text())["step"] == 2
    next(newest.glob("*.safetensors")).write_bytes(b"")
    output = start("resume", run).finish()
    assert f"{newest}: damaged checkpoint" in output
    assert_same(folder / "whole", run)


def test_if_the_healthy_checkpoint_is_damaged_it_goes_back_to_the_one_before(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Rewind.roll_back

    def damaged_first(self: Rewind, *args: Any) -> Any:
        if not (tmp_path / "run" / "decisions.jsonl").exists():
            healthy = self.directory.checkpoint(self.guard.healthy.number)
            next(healthy.glob("*.safetensors")).write_bytes(b"")
        return whole(self, *args)

    monkeypatch.setattr(Rewind, "roll_back", damaged_first)
    summary = holdfast.run(load_config(folder / "config.yaml", RunConfig), tmp_path / "run")
    assert summary["status"] == "complete"
    outcome = summary["decisions"][0]["outcome"]
    assert outcome.startswith("back to step 0 of stage 1; skipped: damaged checkpoint, ")
    assert "the stage ends" not in outcome
    assert summary["discarded"][0]["from_step"] == 1
    kept = [point["step"] for point in summary["curves"] if point["stage"] == 1]
    assert kept == list(range(1, len(kept) + 1))
