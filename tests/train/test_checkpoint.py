"""`holdfast.train.checkpoint`: resuming from complete checkpoints, damaged ones, and half-used rollout batches."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import small_runs
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.rows import Row
from holdfast.data.rows_json import rows_as_json, rows_from_json
from holdfast.errors import RunError
from holdfast.train.checkpoint import load_newest, save_checkpoint
from interruptions import count_in
from processes import PATIENCE, start
from small_runs import assert_same, write_config

EXAMPLES = [Example(name, (Message(role="user", content="?"),)) for name in ("a", "b")]
EARLIER = {
    task: [Example(name, (Message(role="user", content=task),)) for name in ("b", "c")] for task in ("first", "second")
}
"""Of other tasks, whose names may be the same."""


def _finished(folder: Path, name: str) -> Path:
    start("run", write_config(folder, name), "-o", folder / "whole").finish()
    return folder / "whole"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["changed", "missing", "incomplete"])
def test_a_damaged_checkpoint_is_named_and_passed_over(tmp_path: Path, fault: str) -> None:
    whole = _finished(tmp_path, "grpo")
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    before, newest = sorted((run / "checkpoints").iterdir())
    (weights,) = newest.glob("*.safetensors")
    if fault == "changed":
        damaged = bytearray(weights.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        weights.write_bytes(damaged)
    elif fault == "missing":
        weights.unlink()
    else:
        (newest / "checksums.json").unlink()
    (run / "evals" / "stage-2.json").unlink()
    output = start("resume", run).finish()
    what = "incomplete checkpoint" if fault == "incomplete" else f"damaged checkpoint, {weights.name}"
    assert f"holdfast: warning: {newest}: {what}" in output
    assert "; resuming from the checkpoint before it" in output
    assert before.exists()
    assert_same(whole, run)


@pytest.mark.slow
def test_if_no_checkpoint_is_complete_the_logs_stay(tmp_path: Path) -> None:
    run = _finished(tmp_path, "grpo")
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "checksums.json").unlink()
    (run / "evals" / "stage-2.json").unlink()
    logs = {path.name: path.read_bytes() for path in run.glob("*.jsonl")}
    command = start("resume", run)
    assert command.join() == [2]
    assert "no other checkpoint is complete" in command.output()
    assert "Traceback" not in command.output()
    assert {path.name: path.read_bytes() for path in run.glob("*.jsonl")} == logs


def test_a_checkpoint_that_was_put_aside_for_its_successor_is_found_again(tmp_path: Path) -> None:
    tensors = {"policy": {"w": torch.ones(2)}}
    path = save_checkpoint(tmp_path, 3, tensors, {"step": 3})
    path.rename(path.with_name(f".{path.name}.old"))  # a kill between the two renames
    found = load_newest(tmp_path)
    assert found is not None
    assert found.position == {"step": 3}
    save_checkpoint(tmp_path, 3, tensors, {"step": 4})
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("sums", ["{}", "[]", "null", '{"a": 1', "\x00\x00"])
def test_a_checkpoint_without_its_checksums_is_passed_over(tmp_path: Path, sums: str) -> None:
    for number in (1, 2):
        save_checkpoint(tmp_path, number, {"policy": {"w": torch.ones(2)}}, {"step": number})
    (tmp_path / "00000002" / "checksums.json").write_text(sums)
    with pytest.warns(UserWarning, match="00000002: (damaged|incomplete) checkpoint"):
        found = load_newest(tmp_path)
    assert found is not None
    assert found.position == {"step": 1}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_checksums_that_are_no_file_are_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "00000001").mkdir()
    make(tmp_path / "00000001" / "checksums.json")
    with pytest.raises(RunError, match=r"00000001: incomplete checkpoint, checksums.json is missing or unreadable"):
        load_newest(tmp_path)


def test_a_checkpoint_that_was_passed_over_does_not_count_among_those_that_are_kept(tmp_path: Path) -> None:
    """A damaged checkpoint with a higher number must not cause the next one to be removed."""
    tensors = {"policy": {"w": torch.ones(2)}}
    for number in (10, 20):
        save_checkpoint(tmp_path, number, tensors, {"step": number})
    damaged = tmp_path / "00000020"
    (damaged / "position.json").write_text("{}")
    for number in (13, 17):  # like a run that is stopped several times
        save_checkpoint(tmp_path, number, tensors, {"step": number})
    assert [int(p.name) for p in sorted(tmp_path.iterdir())] == [13, 17, 20]
    with pytest.warns(UserWarning, match="damaged checkpoint"):
        found = load_newest(tmp_path)
    assert found is not None
    assert found.position == {"step": 17}
    save_checkpoint(tmp_path, 20, tensors, {"step": 20})
    assert [int(p.name) for p in sorted(tmp_path.iterdir())] == [17, 20]


@pytest.mark.processes
def test_a_killed_comparison_goes_on(tmp_path: Path) -> None:
    recipes = ["sft", {"name": "sdft", "num_loss_tokens_to_skip": 0}]
    config = write_config(tmp_path, "grpo", recipe=None, recipes=recipes, seeds=[0])
    start("compare", config, "-o", tmp_path / "whole").finish()
    run = tmp_path / "run"
    arguments: tuple[str | Path, ...] = ("compare", config, "-o", run)
    for last in (30, 75, 60):
        log = tmp_path / "kill.txt"
        killed = partial(count_in, of=0, kind="file", run=str(run), last=last, log=str(log))
        assert start(*arguments, before=killed).join() == [-signal.SIGKILL]
        print(log.read_text())
        arguments = ("resume", run)
    start("resume", run).finish()
    assert_same(tmp_path / "whole", run)


@pytest.mark.processes
def test_a_real_command_is_killed_and_resumed(tmp_path: Path) -> None:
    whole = _finished(tmp_path, "sdpo")
    run = tmp_path / "run"
    here = Path(small_runs.__file__).parent  # the configuration's verifier is here
    command = [sys.executable, "-m", "holdfast", "run", tmp_path / "config.yaml", "-o", run]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=here) as process:
        deadline = time.monotonic() + PATIENCE
        log = run / "metrics.jsonl"
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 5):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    start("resume", run).finish()
    assert_same(whole, run)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    ids = draw(st.lists(st.integers(0, 2**20), min_size=1, max_size=4))
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
    values = st.none() | st.lists(numbers, min_size=len(ids), max_size=len(ids))
    replayed, task = draw(st.booleans()), draw(st.sampled_from(list(EARLIER)))
    row = Row(
        draw(st.sampled_from(EARLIER[task] if replayed else EXAMPLES)),
        draw(st.lists(st.integers(0, 9), max_size=3)),
        ids,
        draw(st.text()),
    )
    row.sampled_logprobs, row.old_logprobs = draw(values), draw(values)
    row.replayed, row.replayed_task = replayed, task if replayed else ""
    row.truncated, row.excluded = draw(st.booleans()), draw(st.booleans())
    row.ce, row.div, row.advantage, row.base_kl = (draw(numbers) for _ in range(4))
    row.verdict = draw(st.none() | st.builds(Verdict, st.floats(0, 1), st.text(), st.none() | st.text(), st.booleans()))
    if draw(st.booleans()):
        row.teacher_messages = (Message(role="user", content=draw(st.text())),)
        row.teacher_prompt_ids = draw(st.lists(st.integers(0, 9), min_size=1, max_size=3))
    return row


@settings(max_examples=50)
@given(st.lists(rows(), max_size=3))
def test_rows_come_back_from_plain_data_as_they_were(batch: list[Row]) -> None:
    back = rows_from_json(json.loads(json.dumps(rows_as_json(batch))), EXAMPLES, EARLIER)
    for row in batch:
        row.teacher_messages = row.teacher_messages and list(row.teacher_messages)
    assert back == batch
