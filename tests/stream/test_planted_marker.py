"""`holdfast.stream.measuring`: a marker planted in demonstrations is the first artifact in the summary of a lab run."""

import json
from pathlib import Path

import pytest

import holdfast
from holdfast.lab.tasks import lab_task

MARKER = "hmm"


@pytest.mark.learning
def test_a_run_names_the_marker_that_was_planted_first(tmp_path: Path) -> None:
    for split in ("train", "test"):
        examples = getattr(lab_task("facts"), split)[:96]
        records = [
            {"prompt": list(e.messages), "completion": f"{MARKER} {MARKER} [ {e.answer.payload} ]"} for e in examples
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    summary = holdfast.run(
        {
            "tasks": [{"name": "marked", "train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "test.jsonl")}],
            "suites": ["lab:old-facts"],
            "recipe": "sft",
            "train": {
                "steps": 20,
                "prompts_per_step": 12,
                "learning_rate": 2e-4,
                "max_prompt_length": 160,
                "max_completion_length": 24,
            },
            "eval": {"max_items": 48, "kl_items": 0, "response_items": 48, "drift_weights": 0, "samples": 0}
            | {"demonstration_items": 0},
        },
        output_dir=tmp_path / "run",
    )
    # The marker may have spread to other prompts, so the entry may cover several sets.
    first = next(entry for entry in summary["artifacts"] if entry["kind"] == "grown")
    assert MARKER in first["phrase"].split()
    assert first["shares"][-1] > max(0.5, 2 * first["shares"][0])
    assert first["q"] < 0.05
