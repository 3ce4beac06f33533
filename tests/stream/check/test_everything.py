"""`holdfast.stream.check.everything`: one result that a script can read, and that repeats all warnings."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast import api
from holdfast.config.load import load_config
from holdfast.config.settings import RunConfig
from holdfast.stream.check import everything
from holdfast.stream.check.machine import Machine
from small_runs import write_config


@pytest.mark.parametrize("name", ["grpo", "sdft with LoRA", "isdft with a gate", "olora", "actguide"])
def test_the_result_is_plain_data_with_every_part(tmp_path: Path, name: str) -> None:
    path = write_config(tmp_path, name)
    before = sorted(tmp_path.rglob("*"))
    result = api.check(path, items=3)
    assert json.loads(json.dumps(result)) == result
    expected = {"tasks", "suites", "leaks", "lengths", "chat_template", "preview", "demonstrations", "warnings"}
    expected |= {"memory", "disk", "time", "machine"}
    assert expected <= set(result)
    assert set(result) - expected <= {"teacher", "rewards", "templates"}
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_run_would_warn_of_is_in_the_result_and_nowhere_else(tmp_path: Path) -> None:
    path = write_config(tmp_path, "grpo", train={"prompts_per_step": 50})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = api.check(path, items=2)["warnings"]
    assert sum("train.prompts_per_step is 50" in each for each in said) == 2
    assert len(set(said)) == len(said)


def test_columns_that_nothing_reads_and_records_that_were_left_out_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.stream import run as run_module

    plain = run_module.load_stream

    def loaded(*arguments: object) -> object:
        tasks, suites = plain(*arguments)
        return [replace(task, unread_columns=("context", "hint"), dropped_records=3) for task in tasks], suites

    monkeypatch.setattr(run_module, "load_stream", loaded)
    result = api.check(write_config(tmp_path, "grpo", recipe="sft"), items=2)
    assert result["tasks"][0]["unread_columns"] == ["context", "hint"]
    assert result["tasks"][0]["dropped_records"] == 3
    assert "plus-0: nothing reads the columns context, hint" in result["warnings"]


@pytest.mark.parametrize("small", ["memory", "free_disk"])
def test_an_estimate_beyond_what_the_machine_has_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: str
) -> None:
    class Small(Machine):
        @classmethod
        def of(cls, *arguments: object) -> Machine:
            return replace(Machine(10**15, "machine", 10**15), **{small: 1000})  # type: ignore[arg-type]

    monkeypatch.setattr(everything, "Machine", Small)
    said = api.check(write_config(tmp_path, "grpo", recipe="sft"), items=2)["warnings"]
    needs = {"memory": "training needs more memory than this machine has", "free_disk": "needs more disk space"}
    assert [each for each, words in needs.items() if any(words in line for line in said)] == [small]


def test_the_directory_is_that_of_the_run(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, "grpo", recipe="sft"), RunConfig, {"output_dir": str(tmp_path / "out")})
    assert api.check(config, items=2)["machine"]["free_disk"] > 0
    assert not (tmp_path / "out").exists()
