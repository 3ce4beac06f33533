"""`holdfast.stream.recover`: what a short repair of a run's last model brings back."""

import json
from pathlib import Path

import pytest

import holdfast
from commands import Commands
from holdfast.data.example import Example
from holdfast.data.rows import Row
from holdfast.errors import ConfigError, RunError
from holdfast.stream.recover import _batches


def short_run(folder: Path) -> Path:
    """One step of the lab's model, with a suite that the base answers right and one that no answer passes."""
    (folder / "none.jsonl").write_text("".join(f'{{"prompt": "Say {i}."}}\n' for i in range(8)))
    impossible = {"name": "impossible", "test": str(folder / "none.jsonl"), "verifier": "judges:never"}
    config = {
        "tasks": [{"name": "facts", "lab": "facts", "limit": 8}],
        "suites": ["lab:old-facts", impossible],
        "recipe": "sft",
        "train": {"steps": 1, "prompts_per_step": 4, "max_prompt_length": 160, "max_completion_length": 48},
        "eval": {"max_items": 16, "kl_items": 0, "response_items": 0, "drift_weights": 0},
    }
    holdfast.run(config, folder / "run")
    return folder / "run"


@pytest.mark.slow
def test_it_is_written_printed_and_repeatable(tmp_path: Path, command: Commands) -> None:
    run = short_run(tmp_path)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    outcome = command("recover", run, "--steps", "2", "--quiet")
    assert outcome.code == 0, outcome.err
    found = json.loads((run / "recover.json").read_text())
    assert {file: file.read_bytes() for file in before} == before
    assert found["stage"] == 1
    assert found["steps"] == 2
    assert found["learning_rate"] == pytest.approx(1e-4 / 3)
    assert found["suites"]["impossible"]["skipped"] == "the base answers only 0 of the items for the repair right"
    assert "impossible: skipped" in outcome.out
    known = found["suites"]["old-facts"]
    assert (known["repair_items"], known["test_items"]) == (8, 8)
    assert known["outcome"] == "not lost"
    assert "old-facts" in outcome.out
    assert holdfast.recover(run, steps=2) == found
    assert list(holdfast.recover(run, ["impossible"], steps=2)["suites"]) == ["impossible"]
    with pytest.raises(ConfigError, match=r"no suite is named .old-fact.*did you mean"):
        holdfast.recover(run, ["old-fact"])


def test_what_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run directory"):
        holdfast.recover(tmp_path)
    (tmp_path / "config.yaml").write_text("{}")
    with pytest.raises(RunError, match="is not a single run"):
        holdfast.recover(tmp_path)


def test_each_pass_has_every_row_once() -> None:
    rows = [Row(Example(str(i), ()), [1], [i]) for i in range(5)]
    for size, steps in ((2, 5), (5, 3), (8, 4), (1, 7)):
        batches = _batches(rows, size, steps, 0)
        assert [len(batch) for batch in batches] == [min(size, 5)] * steps
        drawn = [row.completion_ids[0] for batch in batches for row in batch]
        for start in range(0, len(drawn) - 4, 5):
            assert sorted(drawn[start : start + 5]) == [0, 1, 2, 3, 4]
    assert _batches(rows, 2, 5, 0) == _batches(rows, 2, 5, 0) != _batches(rows, 2, 5, 1)


@pytest.mark.learning
def test_a_skill_that_was_only_hidden_comes_back(tmp_path: Path) -> None:
    """Short SFT on terse answers makes the lab's model answer old facts in another form; the facts are still there."""
    holdfast.run(
        {
            "tasks": ["lab:facts"],
            "suites": ["lab:old-facts"],
            "recipe": "sft",
            "train": {"steps": 60, "learning_rate": 1e-3, "max_prompt_length": 160, "max_completion_length": 48},
            "eval": {"max_items": 96, "kl_items": 0, "response_items": 0, "drift_weights": 0}
            | {"demonstration_items": 0},
        },
        tmp_path / "run",
    )
    found = holdfast.recover(tmp_path / "run")["suites"]["old-facts"]
    assert found["base"]["before"] > 0.8
    assert found["lost"]["verdict"] == "worse"
    assert found["recovered"]["verdict"] == "better"
    assert found["share"] > 0.3
