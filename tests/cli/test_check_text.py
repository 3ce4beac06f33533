"""`holdfast.cli.check_text`: what `holdfast check` prints."""

import json
from pathlib import Path
from typing import Any

import pytest

from commands import LAB_RUN, Commands
from holdfast import api
from holdfast.cli.check_text import check_as_text, comparison_as_text
from small_runs import write_config


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = write_config(tmp_path_factory.mktemp("text"), "sdft with LoRA", suites=[])
    return dict(api.check(path, items=3, **{"recipe.num_loss_tokens_to_skip": 2}))


def test_an_example_is_shown_with_special_tokens_and_skipped_tokens_marked(result: dict[str, Any]) -> None:
    text = check_as_text("own", result)
    assert "one example of plus-0, as the model sees it" in text
    assert "      | <|im_start|>user\n      | What is " in text
    assert "      | ⟦skipped: " in text
    assert "One good answer to this is:" in text
    assert "4 of 6 tokens have a loss" in text


def test_estimates_are_beside_what_the_machine_has(result: dict[str, Any]) -> None:
    lines = check_as_text("own", result).splitlines()
    start = lines.index("  estimates")
    memory, disk, time = lines[start + 1 : start + 4]
    assert memory.startswith("    memory  about ")
    assert " of the machine's " in memory
    assert disk.startswith("    disk    about ")
    assert " free (up to 3 checkpoints of " in disk
    assert time.startswith("    time    about ")
    assert " per optimizer step)" in time


def test_every_warning_is_one_line(result: dict[str, Any]) -> None:
    text = check_as_text("own", result)
    marked = [line for line in text.splitlines() if "WARNING: " in line]
    assert sorted(marked) == sorted(f"    WARNING: {each}" for each in result["warnings"])
    assert f"  {len(marked)} warnings, 2 of them above" in text.splitlines()  # one teacher for each task
    assert result["teacher"][0]["sentence"] in text
    calm = check_as_text("own", {**result, "warnings": []})
    assert "  no warnings" in calm
    assert "WARNING" not in calm


def test_a_long_prompt_is_cut_in_the_middle(result: dict[str, Any]) -> None:
    preview = result["preview"][0] | {"prompt": "\n".join(f"line {n}" for n in range(100))}
    text = check_as_text("own", {**result, "preview": [preview]})
    assert "| line 0" in text
    assert "| line 99" in text
    assert "| line 50" not in text
    assert "| … 88 lines …" in text


def test_white_space_is_shown_as_it_is(result: dict[str, Any]) -> None:
    preview = result["preview"][0] | {"prompt": f"a\tb  c\r\nd\n{'long ' * 30}"}
    lines = check_as_text("own", {**result, "preview": [preview]}).split("\n")
    assert "      | a\tb  c␍" in lines
    assert "      | d" in lines
    (whole,) = (lines[place : place + 2] for place, line in enumerate(lines) if line.startswith("      | long "))
    assert whole[1].startswith("      ¦ long ")
    assert sum(line.count("long ") for line in whole) == 30


def test_what_was_left_out_and_what_leaks_is_said(result: dict[str, Any]) -> None:
    task = result["tasks"][0] | {"dropped": 2, "dropped_records": 3}
    leak = {"set": "plus-0", "sentence": "plus-0: 1 of 3 prompts stand in the training data of plus-1"}
    text = check_as_text("own", {**result, "tasks": [task], "leaks": [leak]})
    assert "2 training examples dropped as too long, 3 faulty records left out; judged by" in text
    assert leak["sentence"] in text
    assert "no test item stands in the training data" not in text


def test_a_comparison_that_needs_more_disk_than_is_free_is_warned_of() -> None:
    """Each of its runs may fit alone."""
    comparison = {"runs": 3, "disk": 3e9, "time": 60.0, "free_disk": 2 * 10**9}
    assert comparison_as_text(comparison).startswith("WARNING: all 3 runs together: about 3.0 GB of 2.0 GB free disk")
    assert comparison_as_text({**comparison, "disk": 1e9}).startswith("all 3 runs together: about 1.0 GB of 2.0 GB")


@pytest.mark.slow
def test_a_comparison_says_what_all_runs_need(command: Commands, tmp_path: Path) -> None:
    base = {key: value for key, value in LAB_RUN.items() if key != "recipe"}
    config = command.config({**base, "tasks": ["lab:facts"], "recipes": ["sft", "rft"], "seeds": [0, 1, 2]})
    outcome = command("check", config, "--items", "2", "--json", tmp_path / "check.json")
    assert outcome.code == 0, outcome.err
    assert "all 6 runs together: about " in outcome.out
    data = json.loads((tmp_path / "check.json").read_text())
    assert data["all"]["runs"] == 6
    assert data["all"]["disk"] == 3 * sum(each["disk"]["total"] for each in data["recipes"].values())
