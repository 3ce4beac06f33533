"""`holdfast.cli.app`: a run directory from a stranger neither runs a model's code nor leads a writer elsewhere."""

import os
import shutil
from pathlib import Path

import pytest
import yaml

from commands import LAB_RUN, Commands

SMALL = {
    "tasks": [{"name": "facts", "lab": "facts", "limit": 16}],
    "train.steps": 1,
    "train.prompts_per_step": 2,
    "eval.max_items": 4,
    "eval.kl_items": 0,
    "eval.drift_weights": 0,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, not to be changed."""
    import holdfast

    folder = tmp_path_factory.mktemp("finished") / "run"
    settings = {key: value for key, value in LAB_RUN.items() if key != "tasks"}
    holdfast.run({**settings, "tasks": SMALL["tasks"]}, folder, **{k: v for k, v in SMALL.items() if "." in k})
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def _allow_code(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["trust_remote_code"] = True
    (run / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        (("resume", "RUN"), "--trust-remote-code"),
        (("export", "RUN", "-o", "OUT"), "--trust-remote-code"),
        (("recover", "RUN"), "--trust-remote-code"),
        (("eval", "RUN/config.yaml"), "--set model.trust_remote_code=true"),
        (("run", "RUN/config.yaml", "-o", "OUT"), "--set model.trust_remote_code=true"),
        (("check", "RUN/config.yaml"), "--set model.trust_remote_code=true"),
        (("advise", "RUN/config.yaml"), "--set model.trust_remote_code=true"),
    ],
)
def test_the_directorys_own_word_for_a_models_code_does_not_count(
    command: Commands, run: Path, tmp_path: Path, arguments: tuple[str, ...], mend: str
) -> None:
    _allow_code(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outcome = command(*(each.replace("RUN", str(run)).replace("OUT", str(tmp_path / "out")) for each in arguments))
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "model.trust_remote_code would run code that comes with lab" in outcome.err
    assert mend in outcome.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_users_word_counts(command: Commands, run: Path, tmp_path: Path) -> None:
    _allow_code(run)
    assert command("resume", run, "--trust-remote-code", "-q").code == 0
    assert command("export", run, "-o", tmp_path / "out", "--trust-remote-code").code == 0
    assert command("eval", run / "config.yaml", "--set", "model.trust_remote_code=true").code == 0
    assert command("report", run).code == 0, "a report loads no model"


@pytest.fixture(scope="module")
def finished_unprotected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of programs, whose user said that they may run without a sandbox; not to be changed."""
    import holdfast

    folder = tmp_path_factory.mktemp("unprotected") / "run"
    settings = {key: value for key, value in LAB_RUN.items() if key != "tasks"}
    tasks = [{"name": "p", "lab": "programs", "limit": 4, "run_code": "unprotected"}]
    holdfast.run({**settings, "tasks": tasks}, folder, **{k: v for k, v in SMALL.items() if "." in k})
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        (("resume", "RUN"), "repeat the command with --unprotected"),
        (("resume", "RUN", "--trust-remote-code"), "repeat the command with --unprotected"),
        (("recover", "RUN"), "repeat the command with --unprotected"),
        (("eval", "RUN/config.yaml"), "--set tasks.p.run_code=unprotected"),
        (("run", "RUN/config.yaml", "-o", "OUT"), "--set tasks.p.run_code=unprotected"),
        (("check", "RUN/config.yaml"), "--set tasks.p.run_code=unprotected"),
        (("rewrite", "RUN/config.yaml", "-o", "OUT"), "--set tasks.p.run_code=unprotected"),
        (("advise", "RUN/config.yaml"), "copy the file out of the run directory"),
        (("gate", "lab", "lab", "--config", "RUN/config.yaml"), "copy the file out of the run directory"),
        (("blend", "lab", "lab", "-o", "OUT", "--config", "RUN/config.yaml"), "copy the file out of the run directory"),
    ],
)
def test_the_directorys_own_word_for_no_sandbox_does_not_count(
    command: Commands, finished_unprotected: Path, tmp_path: Path, arguments: tuple[str, ...], mend: str
) -> None:
    run = finished_unprotected
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outcome = command(*(each.replace("RUN", str(run)).replace("OUT", str(tmp_path / "out")) for each in arguments))
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "tasks.p.run_code would run code that the model writes without a sandbox, as you" in outcome.err
    assert mend in outcome.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_users_word_for_no_sandbox_counts(command: Commands, finished_unprotected: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_unprotected, tmp_path / "run"))
    assert command("resume", run, "--unprotected", "-q").code == 0
    assert command("eval", run / "config.yaml", "--set", "tasks.p.run_code=unprotected").code == 0
    assert command("export", run, "-o", tmp_path / "out").code == 0, "an export loads no tasks"
    assert command("report", run).code == 0
    assert command("drift", "lab", run / "models" / "stage-1").code == 0


LINKED = (
    "metrics.jsonl",
    "decisions.jsonl",
    "summary.json",
    "config.yaml",
    "models",
    "checkpoints",
    "evals/stage-0.json",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", LINKED)
def test_nothing_is_written_through_a_link(command: Commands, run: Path, tmp_path: Path, name: str) -> None:
    place, target = run / name, tmp_path / "elsewhere"
    if place.exists():
        shutil.move(place, target)
    else:
        target.write_text("a line of something else\n")
    place.symlink_to(target)
    before = _content(target)
    outcome = command("resume", run)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert f"{place}: is a symbolic link" in outcome.err
    assert _content(target) == before
    assert not (run / ".lock").exists()


def _content(path: Path) -> object:
    if path.is_file():
        return path.read_bytes()
    return {each.relative_to(path): each.read_bytes() for each in path.rglob("*") if each.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["report.html", "recover.json"])
def test_what_is_written_beside_a_run_replaces_no_link(command: Commands, run: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").write_text("kept")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(tmp_path / "elsewhere")
    outcome = command("report" if name == "report.html" else "recover", run)
    assert outcome.code == 2
    assert f"{run / name}: is a symbolic link" in outcome.err
    assert (tmp_path / "elsewhere").read_text() == "kept"


@pytest.mark.slow
def test_a_pipe_in_the_place_of_a_log_is_not_waited_for(command: Commands, run: Path) -> None:
    os.mkfifo(run / "discarded.jsonl")
    outcome = command("resume", run)
    assert outcome.code == 2
    assert f"{run}/discarded.jsonl: is a FIFO, not a regular file" in outcome.err


@pytest.mark.slow
def test_a_changed_summary_is_not_reported(command: Commands, run: Path) -> None:
    summary = run / "summary.json"
    summary.write_text(summary.read_text().replace('"optimizer_steps": 1', '"optimizer_steps": 7'))
    outcome = command("report", run)
    assert outcome.code == 2
    assert f"{summary}: has changed since the run wrote it (delete the file and run `holdfast resume`" in outcome.err
    assert command("resume", run, "-q").code == 0
    assert command("report", run).code == 0
