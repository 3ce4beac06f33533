"""`holdfast.judging` in whole runs: signals end them in time, counts are right, and no process outlives them."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from processes import Command, start
from small_runs import assert_same, write_config

STUCK = """
import os, sys, time, pathlib
def verify(example, completion):
    here = pathlib.Path(os.environ["STUCK"])
    if (here / "go").exists() and os.environ.get("RANK", "0") == "0":
        (here / "stuck").write_text(str(os.getpid()))
        {hang}
    return float(sum(map(ord, completion)) % 2 == 0)
"""

HANGS: Mapping[str, str] = {
    "sleep": "time.sleep(3600)",
    "loop": "while True: pass",
    "deaf": """
        import signal
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        time.sleep(3600)""",
}


def _stuck_run(folder: Path, hang: str, **task: Any) -> Path:
    """A configuration whose verifier hangs as soon as there is a file `go`."""
    (folder / "stuck_judge.py").write_text(STUCK.format(hang=hang))
    path = write_config(folder, "grpo")
    config = yaml.safe_load(path.read_text())
    for each in config["tasks"]:
        each |= {"verifier": "stuck_judge:verify", "verifier_timeout": 3600, **task}
    path.write_text(yaml.safe_dump(config))
    return path


def _enter(folder: str, _: int) -> None:
    """Work in a folder, which the verifier is told."""
    os.chdir(folder)
    os.environ["STUCK"] = folder


def _wait_for(path: Path, command: Command) -> None:
    end = time.monotonic() + 120
    while not path.exists() or not path.read_text():
        assert time.monotonic() < end, command.output()
        assert command.processes[0].is_alive(), command.output()
        time.sleep(0.05)


def _is_there(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.processes
@pytest.mark.parametrize(
    ("hang", "in_process", "number"),
    [
        ("sleep", False, signal.SIGTERM),
        ("loop", False, signal.SIGHUP),
        ("deaf", False, signal.SIGINT),
        ("sleep", True, signal.SIGTERM),
        ("loop", True, signal.SIGHUP),
    ],
)
def test_a_signal_ends_a_run_whose_verifier_hangs(hang: str, in_process: bool, number: int, tmp_path: Path) -> None:
    """It ends within 10 seconds with its state saved, and resumed it is the run that was never interrupted."""
    config = _stuck_run(tmp_path, HANGS[hang], in_process=in_process)
    start("run", config, "-o", tmp_path / "whole", before=partial(_enter, str(tmp_path))).finish()
    run = tmp_path / "run"
    command = start("run", config, "-o", run, before=partial(_enter, str(tmp_path)))
    _wait_for(run / "metrics.jsonl", command)
    (tmp_path / "go").touch()
    _wait_for(tmp_path / "stuck", command)
    stuck = int((tmp_path / "stuck").read_text())
    asked = time.monotonic()
    os.kill(command.processes[0].pid or 0, number)
    assert command.join() == [128 + number], command.output()
    assert time.monotonic() - asked < 10
    assert not _is_there(stuck)
    saved = sorted(run.glob("checkpoints/[0-9]*"))
    assert int(saved[-1].name) == len((run / "metrics.jsonl").read_text().splitlines())
    (tmp_path / "go").unlink()
    start("resume", run, before=partial(_enter, str(tmp_path))).finish()
    assert_same(tmp_path / "whole", run)


@pytest.mark.processes
@pytest.mark.parametrize(("number", "in_process"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_signal_to_one_of_two_processes_ends_both(number: int, in_process: bool, tmp_path: Path) -> None:
    """It reaches the process that waits for the other's answers. The other hangs in its verifier."""
    config, enter = _stuck_run(tmp_path, HANGS["sleep"], in_process=in_process), partial(_enter, str(tmp_path))
    start("run", config, "-o", tmp_path / "whole", size=2, before=enter).finish()
    run = tmp_path / "run"
    command = start("run", config, "-o", run, size=2, before=enter)
    _wait_for(run / "metrics.jsonl", command)
    (tmp_path / "go").touch()
    _wait_for(tmp_path / "stuck", command)
    asked = time.monotonic()
    os.kill(command.processes[1].pid or 0, number)
    assert command.join() == [128 + number] * 2, command.output()
    assert time.monotonic() - asked < 10
    assert command.output().count("holdfast: stopped; resume with") == 1
    saved = sorted(run.glob("checkpoints/[0-9]*"))
    assert int(saved[-1].name) == len((run / "metrics.jsonl").read_text().splitlines())
    (tmp_path / "go").unlink()
    start("resume", run, size=2, before=enter).finish()
    assert_same(tmp_path / "whole", run)


@pytest.mark.processes
def test_judging_processes_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    config = _stuck_run(tmp_path, HANGS["deaf"])
    (tmp_path / "go").touch()
    command = start("run", config, "-o", tmp_path / "run", before=partial(_enter, str(tmp_path)))
    _wait_for(tmp_path / "stuck", command)
    stuck = int((tmp_path / "stuck").read_text())
    assert _is_there(stuck)
    command.kill()
    end = time.monotonic() + 10
    while _is_there(stuck) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _is_there(stuck)


ONE_IN_50 = """
import hashlib, time
def verify(example, completion):
    if hashlib.sha256(completion.encode()).digest()[0] % 50 == 0:
        time.sleep(3600)
    if hashlib.sha256(completion.encode()).digest()[0] % 50 == 1:
        raise KeyError("odd")
    return float(sum(map(ord, completion)) % 2 == 0)
"""


@pytest.mark.slow
def test_a_run_whose_verifier_hangs_now_and_then_ends_with_the_right_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import holdfast

    (tmp_path / "now_and_then.py").write_text(ONE_IN_50)
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load(write_config(tmp_path, "grpo").read_text())
    for each in config["tasks"]:
        each |= {"verifier": "now_and_then:verify", "verifier_timeout": 0.5, "verifier_errors": "score_zero"}
    config["recipe"] |= {"num_generations": 12, "num_iterations": 1}
    config["tasks"] = config["tasks"][:1]
    config["train"] |= {"steps": 6, "verifier_workers": 2}
    config["eval"] |= {"probe_steps": 3, "pass_at_k": [1, 4]}
    started = time.monotonic()
    with pytest.warns(UserWarning, match="so it scores 0"):
        summary = holdfast.run(config, tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    timeouts = sum(record["verifier_timeouts"] for record in records)
    errors = sum(record["verifier_errors"] for record in records)
    assert timeouts + errors > 0
    assert sum(record["completions"] for record in records) == 6 * 2 * 12
    evaluated = [
        own for n in (0, 1) for own in json.loads((tmp_path / f"run/evals/stage-{n}.json").read_text())["sets"].values()
    ]
    evaluated += [json.loads(line) for line in (tmp_path / "run" / "probes.jsonl").read_text().splitlines()]
    failed = summary["failed_judgments"]
    assert failed["timeouts"] == timeouts + sum(own["verifier_timeouts"] for own in evaluated)
    assert failed["errors"] == errors + sum(own["verifier_errors"] for own in evaluated)
    assert failed["first"][0].startswith("verifier of 'plus-0', example ")
    assert any("scored 0" in sentence for sentence in summary["verdict"])
    # Each judgment that hangs costs its limit and a new process.
    assert time.monotonic() - started < 60 + 5 * failed["timeouts"]
