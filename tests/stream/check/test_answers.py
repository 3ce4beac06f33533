"""`holdfast.stream.check.answers`: skipped tokens and limits against the lengths of real answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast import api
from small_runs import write_config


def _warnings(folder: Path, answer: str, recipe: dict[str, Any], **train: int) -> list[str]:
    path = write_config(folder, "sdft with LoRA", recipe=recipe, train=train)
    records = [{"prompt": f"What is {i}?", "completion": answer} for i in range(12)]
    (folder / "own.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    tasks = [{"name": "own", "train": str(folder / "own.jsonl"), "test_fraction": 0.25}]
    return list(api.check(path, items=2, tasks=tasks)["warnings"])


def test_three_skipped_tokens_of_answers_of_four_are_warned_of(tmp_path: Path) -> None:
    said = _warnings(tmp_path, "42.", {"name": "sdft", "num_loss_tokens_to_skip": 3}, max_completion_length=40)
    (line,) = [each for each in said if "no loss" in each]
    assert line == (
        "own: the first 3 tokens of an answer have no loss, and a typical answer has 4. Lower the recipe's "
        "num_loss_tokens_to_skip"
    )


@pytest.mark.parametrize(("skip", "warned"), [(0, False), (1, True), (4, True), (9, True)])
def test_a_good_part_of_a_typical_answer_is_a_quarter(tmp_path: Path, skip: int, warned: bool) -> None:
    said = _warnings(tmp_path, "42.", {"name": "sdft", "num_loss_tokens_to_skip": skip}, max_completion_length=40)
    lines = [each for each in said if "no loss" in each]
    assert bool(lines) is warned
    assert all(("9 of 9 answers lose all of them" in line) == (skip >= 4) for line in lines)


def test_a_few_skipped_tokens_of_a_long_answer_are_fine(tmp_path: Path) -> None:
    answer = "Thought: I should look it up. Action: searchImages"
    said = _warnings(tmp_path, answer, {"name": "sdft", "num_loss_tokens_to_skip": 3}, max_completion_length=60)
    assert [each for each in said if "no loss" in each] == []


def test_demonstrations_longer_than_the_longest_completion_are_warned_of(tmp_path: Path) -> None:
    said = _warnings(tmp_path, "one two three four five six", {"name": "sdft"}, max_completion_length=8)
    (line,) = [each for each in said if "demonstrations are longer" in each]
    assert "own: 9 of 9 demonstrations are longer than train.max_completion_length 8" in line


def test_samples_that_are_cut_off_are_warned_of(tmp_path: Path) -> None:
    said = _warnings(tmp_path, "42.", {"name": "sdft", "num_loss_tokens_to_skip": 0}, max_completion_length=4)
    assert any("samples are cut off at train.max_completion_length" in each for each in said)


def test_a_recipe_that_skips_nothing_and_samples_nothing_is_not_warned_of(tmp_path: Path) -> None:
    said = _warnings(tmp_path, "42.", {"name": "sft"}, max_completion_length=8)
    assert [each for each in said if "own: " in each] == []


def test_samples_that_all_say_the_same_are_warned_of(tmp_path: Path) -> None:
    """A model that answers every prompt alike was once seen only by reading its samples."""
    path = write_config(tmp_path, "grpo")
    tasks = [{"name": "own", "train": str(tmp_path / "0.jsonl"), "test_fraction": 0.25}]
    for verifier, warned in (("judges:always_reads_b", True), ("judges:by_letters", False)):
        said = api.check(path, items=4, tasks=[tasks[0] | {"verifier": verifier}])["warnings"]
        lines = [each for each in said if "samples say" in each]
        assert bool(lines) is warned
        assert all(line.startswith("own: ") and "samples say 'B', and their mean reward is" in line for line in lines)
