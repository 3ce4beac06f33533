"""`holdfast.cli.run_command`: bad input ends in one line that names the place and the fix, and nothing is written."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commands import LAB_RUN, Commands

ROWS = [{"prompt": f"What is {n} plus {n}?", "completion": f"{2 * n}.", "answer": f"{2 * n}."} for n in range(12)]

VERIFIERS = """
import os
from math import nan

def throws(example, completion):
    raise KeyError("no such\\n  key")

def nan_reward(example, completion):
    return nan

def too_much(example, completion):
    return 7

def nonsense(example, completion):
    return "well done"

def throws_later(example, completion):
    foreseen = completion in ("", "no answer", example.demonstration)
    if not foreseen and not os.path.exists("fixed"):
        raise ValueError("an unforeseen answer")
    return 0.0

not_a_function = 3
"""

Refused = Callable[..., str]


def files_in(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.fixture
def refused(command: Commands, tmp_path: Path) -> Refused:
    """Runs a command that must be refused; returns its one line."""

    def run(*arguments: str | Path, code: int = 2) -> str:
        before = files_in(tmp_path)
        outcome = command(*arguments)
        assert outcome.code == code
        assert files_in(tmp_path) == before
        assert outcome.err.count("\n") == 1, outcome.err
        assert outcome.err.startswith("holdfast: error: ")
        return outcome.err

    return run


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a data file and a module of verifiers."""
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "bad_verifiers.py").write_text(VERIFIERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "bad_verifiers", raising=False)
    return tmp_path


@pytest.fixture
def file_run(in_folder: Path, tiny_model: Path) -> dict[str, Any]:
    """A run of a few seconds over a data file, with a small random model."""
    return {
        "model": {"path": str(tiny_model)},
        "tasks": [{"name": "sums", "train": "data.jsonl"}],
        "recipe": "sft",
        "train": {"steps": 1, "prompts_per_step": 2, "max_prompt_length": 64, "max_completion_length": 8},
        "eval": {"kl_items": 0},
    }


def test_the_run_that_other_tests_break_works(command: Commands, file_run: dict[str, Any], in_folder: Path) -> None:
    outcome = command("run", command.config(file_run), "--output-dir", "out")
    assert outcome.code == 0, outcome.err
    assert (in_folder / "out" / "summary.json").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train.stepz": 3}, ["config.yaml", "train.stepz", "did you mean 'steps'?"]),
        ({"train.steps": "many"}, ["config.yaml", "train.steps", "integer"]),
        ({"train.steps": 0}, ["train.steps", "greater than or equal to 1"]),
        ({"recipe": "sdtf"}, ["recipe", "'sdtf'", "did you mean 'sdft'?"]),
        ({"recipe.ema_rate": 2}, ["recipe", "ema_rate"]),
        ({"recipe": None}, ["recipe: missing"]),
        ({"model.dtype": "bfloat16"}, ["bfloat16", "model.lora", "float32"]),
        ({"recipe": None, "recipes": ["sft"]}, ["describes a comparison", "holdfast compare"]),
        ({"tasks": []}, ["tasks", "at least 1 item"]),
        ({"tasks": ["calculation"]}, ["tasks.0", "'calculation'", "lab:NAME"]),
        ({"tasks": ["lab:calculus"]}, ["'calculus'", "calculation"]),
        ({"tasks": ["lab:facts", "lab:facts"]}, ["two tasks or suites are named 'facts'", "give each its own name"]),
        ({"train.max_prompt_length": 9000}, ["9048", "256"]),
        ({"eval.max_completion_length": 200}, ["eval.max_completion_length", "360", "256"]),
        ({"model.path": "./nowhere"}, ["./nowhere", "no such folder", "model.path"]),
        ({"model.device": "abacus"}, ["abacus", "model.device"]),
    ],
)
def test_configurations(command: Commands, refused: Refused, changes: dict[str, Any], expected: list[str]) -> None:
    line = refused("run", command.config(LAB_RUN, **changes), "--output-dir", command.folder / "out")
    assert all(part in line for part in expected), line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("recipe: sft\nrecipe: sdft\n", ["config.yaml:2", "'recipe' is given twice"]),
        ("recipe: [sft\n", ["config.yaml:2", "not valid YAML"]),
        ("? [a, b]\n: c\n", ["config.yaml:1", "a key is a list or a mapping"]),
        ("recipe: \x07\n", ["config.yaml", "not valid YAML"]),
        ("just words\n", ["config.yaml", "not a mapping"]),
        ("", ["config.yaml", "is empty"]),
    ],
)
def test_yaml(refused: Refused, tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    for name in ("run", "compare", "check", "eval"):
        line = refused(name, path)
        assert all(part in line for part in expected), line


def test_configuration_files(command: Commands, refused: Refused, tmp_path: Path) -> None:
    assert "no such file" in refused("run", tmp_path / "missing.yaml")
    assert "cannot be read" in refused("run", tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    assert "bytes.yaml: cannot be read: byte 0 is not UTF-8 (save it as text in UTF-8)" in refused(
        "run", tmp_path / "bytes.yaml"
    )
    line = refused("compare", command.config(LAB_RUN))
    assert "describes a single run" in line
    assert "holdfast run" in line


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", ["data.jsonl", "no records"]),
        ('{"prompt": "a", "completion": "b"}\n{"prompt": \n', ["data.jsonl", "2"]),
        ('{"prompt": "a", "completion": "b"}\n{"question": "a"}\n', ["data.jsonl", "2", "prompt"]),
        ('{"prompt": "a", "completion": "b"}\n', ["'sums' has only one prompt", "test"]),
    ],
)
def test_data_files(
    command: Commands, refused: Refused, file_run: dict[str, Any], in_folder: Path, data: str, expected: list[str]
) -> None:
    (in_folder / "data.jsonl").write_text(data)
    line = refused("run", command.config(file_run), "--output-dir", "out")
    assert all(part in line for part in expected), line


def test_a_missing_data_file(command: Commands, refused: Refused, file_run: dict[str, Any]) -> None:
    line = refused("run", command.config(file_run, **{"tasks.sums.train": "elsewhere.jsonl"}))
    assert "elsewhere.jsonl: no such file" in line


@pytest.mark.parametrize(("recipe", "lacking"), [("sft", "completion"), ("sdft", "completion"), ("sdpo", "answer")])
def test_a_task_without_what_the_recipe_needs(
    command: Commands, refused: Refused, file_run: dict[str, Any], in_folder: Path, recipe: str, lacking: str
) -> None:
    rows = [{key: value for key, value in row.items() if key != lacking} for row in ROWS]
    (in_folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = refused("run", command.config(file_run, recipe=recipe), "--output-dir", "out")
    assert repr(recipe) in line
    assert "'sums'" in line
    assert f"`{lacking}`" in line


def test_a_prompt_that_does_not_fit_is_refused(
    command: Commands, refused: Refused, file_run: dict[str, Any], in_folder: Path
) -> None:
    with (in_folder / "data.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "why " * 200, "completion": "so", "answer": "so"}) + "\n")
    line = refused("run", command.config(file_run), "--output-dir", "out")
    assert "limit of 64" in line
    assert "long_prompts: drop" in line


def test_prompts_that_do_not_fit_are_dropped_and_counted(
    command: Commands, file_run: dict[str, Any], in_folder: Path
) -> None:
    long = [{"prompt": "why " * (200 + n), "completion": "so", "answer": "so"} for n in range(5)]
    for name, rows in {"data": [*ROWS[:6], *long[:3]], "test": [*ROWS[6:], *long[3:]]}.items():
        (in_folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"tasks.sums.test": "test.jsonl", "train.long_prompts": "drop"}
    outcome = command("run", command.config(file_run, **changes), "--output-dir", "out")
    assert outcome.code == 0, outcome.err
    assert "holdfast: warning: sums: 5 examples are too long and are left out" in outcome.err
    assert json.loads((in_folder / "out" / "manifest.json").read_text())["dropped"] == {"sums": 5}
    assert json.loads((in_folder / "out" / "summary.json").read_text())["sets"][0]["n"] == 6


@pytest.mark.parametrize(
    ("verifier", "expected"),
    [
        ("no_such_module:verify", ["no_such_module", "PYTHONPATH"]),
        ("bad_verifiers:throw", ["'throw'", "did you mean 'throws'?"]),
        ("bad_verifiers", ["'bad_verifiers'", "module:function"]),
        ("bad_verifiers:not_a_function", ["not a function"]),
        ("bad_verifiers:throws", ["'sums'", "KeyError", "must judge every completion"]),
        ("bad_verifiers:nan_reward", ["'sums'", "nan", "return a number from 0 to 1"]),
        ("bad_verifiers:too_much", ["'sums'", "7", "return a number from 0 to 1"]),
        ("bad_verifiers:nonsense", ["'sums'", "str", "holdfast.Verdict"]),
    ],
)
def test_verifiers(
    command: Commands, refused: Refused, file_run: dict[str, Any], verifier: str, expected: list[str]
) -> None:
    line = refused("run", command.config(file_run, **{"tasks.sums.verifier": verifier}), "--output-dir", "out")
    assert all(part in line for part in expected), line


def test_a_verifier_that_throws_later_leaves_a_run_that_can_be_resumed(
    command: Commands, file_run: dict[str, Any], in_folder: Path
) -> None:
    config = command.config(file_run, **{"tasks.sums.verifier": "bad_verifiers:throws_later"})
    outcome = command("run", config, "--output-dir", "out")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "an unforeseen answer" in outcome.err
    assert "holdfast resume out" in outcome.err
    (in_folder / "fixed").touch()
    assert command("resume", "out").code == 0
    assert json.loads((in_folder / "out" / "summary.json").read_text())["status"] == "complete"


@pytest.mark.parametrize(
    ("break_folder", "expected"),
    [
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "pickle weights"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no *.safetensors"),
        (lambda folder: (folder / "chat_template.jinja").unlink(), "no chat template"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 64), "weights cannot be loaded"),
    ],
)
def test_model_folders(
    command: Commands,
    refused: Refused,
    file_run: dict[str, Any],
    tiny_model: Path,
    tmp_path: Path,
    break_folder: Callable[[Path], None],
    expected: str,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    break_folder(folder)
    line = refused("run", command.config(file_run, **{"model.path": "model"}), "--output-dir", "out")
    assert expected in line
    assert str(folder) in line


def test_directories(command: Commands, refused: Refused, tmp_path: Path) -> None:
    config, full = command.config(LAB_RUN), tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").touch()
    for name in ("run", "compare"):
        own = config if name == "run" else command.config(LAB_RUN, "compare.yaml", recipe=None, recipes=["sft"])
        line = refused(name, own, "--output-dir", full)
        assert f"{full}: the directory exists and is not empty" in line
        assert "holdfast resume" in line
    assert "is not a run directory" in refused("resume", full)
    assert "is not a run directory" in refused("resume", tmp_path / "nowhere")
    assert f"{full / 'summary.json'}: no such file" in refused("report", full)
    (full / "summary.json").write_text("{}")
    assert "schema_version is None" in refused("report", full)
    (full / "summary.json").write_text('{"schema')
    assert "summary.json: cannot be read" in refused("report", full)
    assert "cannot be created" in refused("run", config, "--output-dir", full / "notes.txt" / "run")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run"], ["CONFIG", "holdfast run --help"]),
        (["rum"], ["'rum'", "'run'"]),
        (["run", "c.yaml", "--sed", "3"], ["--sed", "--seed"]),
        (["run", "c.yaml", "--seed", "three"], ["--seed", "integer"]),
        (["run", "c.yaml", "--set", "train.steps"], ["--set train.steps", "KEY=VALUE"]),
        (["run", "c.yaml", "--set", "train.steps=[1"], ["--set train.steps=[1", "not valid YAML"]),
        (["lab", "eval", "--model", "./nowhere"], ["./nowhere", "no such folder"]),
    ],
)
def test_command_lines(refused: Refused, arguments: list[str], expected: list[str]) -> None:
    line = refused(*arguments)
    assert all(part in line for part in expected), line


def test_settings_of_unknown_keys(command: Commands, refused: Refused) -> None:
    config = command.config(LAB_RUN)
    line = refused("run", config, "--set", "tasks.fact.limit=3")
    assert "tasks.fact.limit: no entry 'fact' (did you mean 'facts'?)" in line
    assert "'steps' is a single value" in refused("run", config, "--set", "train.steps.more=3")
    assert "train.stepz: unknown key" in refused("run", config, "--set", "train.stepz=3")
    comparison = command.config(LAB_RUN, recipe=None, recipes=["sft", {"name": "sdft", "label": "slow"}])
    for name in ("run", "compare"):
        assert "no recipe is labeled 'slo' (did you mean 'slow'?)" in refused(name, comparison, "--recipe", "slo")


def test_recipes_that_drop_different_examples_are_reported(
    command: Commands, file_run: dict[str, Any], in_folder: Path
) -> None:
    """SFT counts a demonstration's tokens, GRPO does not. If long examples are dropped, their prompts differ."""
    lines = (in_folder / "data.jsonl").read_text().splitlines()
    record = json.loads(lines[0])
    record["completion"] = "= " + "7 " * 60
    (in_folder / "data.jsonl").write_text("\n".join([json.dumps(record), *lines[1:]]) + "\n")
    data = {key: value for key, value in file_run.items() if key != "recipe"}
    data["train"] = {**data["train"], "long_prompts": "drop"}
    outcome = command(
        "compare", command.config({**data, "recipes": ["sft", "grpo"], "seeds": [0]}), "--output-dir", "c"
    )
    assert outcome.code == 0
    assert "sft and grpo leave out different examples" in outcome.err
