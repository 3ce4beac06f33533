"""`holdfast.tasks.load`: published task data end to end with a small random model, whose loss falls."""

import json
from pathlib import Path
from typing import Any

import pytest

import holdfast
from tiny_model import build_tiny_model


def _texts(*paths: Path) -> list[str]:
    records = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    return [r["system"] + r["prompt"] for r in records if isinstance(r.get("system"), str)] + [
        r["prompt"] for r in records
    ]


@pytest.fixture(scope="module")
def model(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Qwen3 whose byte-level BPE is trained on the data's own words."""
    paths = [shared_data / "sciknoweval" / "chemistry" / "test.json", shared_data / "tooluse" / "test.json"]
    return build_tiny_model(tmp_path_factory.mktemp("real") / "model", vocab_size=4096, texts=_texts(*paths))


def _config(shared_data: Path, model: Path, **changes: Any) -> dict[str, Any]:
    science = shared_data / "sciknoweval" / "chemistry"
    return {
        "model": {"path": str(model), "chat_template_kwargs": {"enable_thinking": False}},
        "tasks": [
            {
                "name": "chemistry",
                "reader": "sciknoweval",
                "train": str(science / "train.json"),
                "test": str(science / "test.json"),
            },
            {"name": "tools", "reader": "toolalpaca", "train": str(shared_data / "tooluse" / "test.json")},
        ],
        "train": {
            "steps": 16,
            "prompts_per_step": 4,
            "learning_rate": 3e-3,
            "max_prompt_length": 2048,
            "max_completion_length": 64,
            "long_prompts": "drop",
        },
        "eval": {"max_items": 4, "kl_items": 2, "max_completion_length": 16},
        **changes,
    }


@pytest.mark.parametrize(
    ("recipe", "lora"),
    [("sft", False), ("sdft", True), ("sdpo", False), ("grpo", True)],
)
def test_real_tasks_run_end_to_end(shared_data: Path, model: Path, tmp_path: Path, recipe: str, lora: bool) -> None:
    config = _config(shared_data, model, recipe=recipe)
    if recipe != "sft":
        config["train"] |= {"steps": 1, "prompts_per_step": 2, "max_completion_length": 8}
    if lora:
        config["model"]["lora"] = {"r": 4, "lora_alpha": 8}
    summary = holdfast.run(config, tmp_path / "run")
    assert summary["status"] == "complete"
    assert summary["order"] == ["chemistry", "tools"]
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    if recipe == "sdft":  # a random model has no successful samples, so sdpo and grpo may have no signal
        assert all(m["active_rows"] == m["rows"] for m in metrics)
        assert all(m["loss"] > 0 for m in metrics)
    if recipe == "sft":
        for stage in (1, 2):
            losses = [c["loss"] for c in summary["curves"] if c["stage"] == stage]
            assert losses[-1] < 0.75 * losses[0]


def test_a_small_model_memorizes_answers_in_chemistry(shared_data: Path, model: Path, tmp_path: Path) -> None:
    """After SFT on four demonstrations, their loss is a fraction of what it was at the beginning."""
    config = _config(shared_data, model, recipe="sft")
    config["tasks"] = [{**config["tasks"][0], "limit": 4}]
    config["train"] |= {"steps": 50, "learning_rate": 8e-3}
    summary = holdfast.run(config, tmp_path / "run")
    assert summary["curves"][-1]["loss"] < 0.1 * summary["curves"][0]["loss"]
