"""Runs of a second or two on a tiny model, and what they must leave behind whatever interrupts them."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from judges import by_letters as by_letters  # the kept run of version 0.1 names it as one of this module
from tiny_model import SAMPLE_TEXTS, build_tiny_model

RUNS: Mapping[str, Mapping[str, Any]] = {
    "grpo": {"recipe": {"name": "grpo", "num_generations": 3, "num_iterations": 3, "beta": 0.1}},
    "grpo with replay": {"recipe": {"name": "grpo", "num_generations": 2, "num_iterations": 3, "replay_ratio": 0.75}},
    "sdpo": {"recipe": {"name": "sdpo", "num_generations": 3, "ema_rate": 0.2, "stage_start": "keep"}},
    "sdpo in bfloat16, several steps": {
        "recipe": {"name": "sdpo", "num_generations": 3, "ema_rate": 0.2, "num_iterations": 3},
        "train": {"bf16": True},
    },
    "isdft with a gate": {
        "recipe": {
            "name": "isdft",
            "teacher_kind": "gated",
            "refresh_every": 1,
            "refresh_average_rate": 0.9,
            "refresh_length_margin": 9.0,
        }
    },
    "npo": {"recipe": {"name": "npo", "num_generations": 3, "num_iterations": 2, "scout_steps": 3, "guide_samples": 2}},
    "auto_npo": {
        "recipe": {"name": "auto_npo", "num_generations": 3, "num_iterations": 2, "guide_samples": 2}
        | {"every": 1, "candidates": 3, "patience": 2, "entropy_share": 9.0, "least_gain": 1.0}
    },
    "sdft with LoRA": {
        "recipe": {"name": "sdft", "num_loss_tokens_to_skip": 0, "ema_rate": 0.2},
        "model": {"lora": {"r": 2}},
    },
    "ewc": {"recipe": {"name": "ewc", "num_sequences": 3, "decay": 0.5, "strength": 100.0}},
    "atesd": {"recipe": {"name": "atesd", "hold": 2, "probe_prompts": 2, "controller_rate": 1.0}},
    "sd_zero": {
        "recipe": {"name": "sd_zero", "srt_steps": 3, "sync_every": 1, "num_generations": 2}
        | {"trajectory_share": 0.4, "revise_right_answers": True}
    },
    "actguide": {
        "recipe": {"name": "actguide", "num_generations": 2, "num_iterations": 2, "beta": 0.1},
        "record": {"actions": ["Take one.", "Count on.", "Say it."]},
    },
    "olora": {"recipe": "olora", "model": {"lora": {"r": 2}}},
    "cpo": {"recipe": {"name": "cpo", "num_generations": 3, "strength": 1.0}},
    "rapo": {"recipe": {"name": "rapo", "num_generations": 3, "std_decay": 0.9}},
    "sft with blending": {"recipe": {"name": "sft", "blend_share": 0.5}},
    "sft with blending and LoRA": {"recipe": {"name": "sft", "blend_share": 0.5}, "model": {"lora": {"r": 2}}},
    "opr": {"recipe": {"name": "opr", "replay_ratio": 1.0, "replay_attempts": 2}},
}
"""Several steps on a rollout batch, with a base, with replayed rows, and with a teacher whose head moves; averages; a
controller, a gate; ways back with near-future answers; revisions; hints; an adapter; what holds the weights; what lasts
over stages."""


def write_config(folder: Path, name: str, **changes: Any) -> Path:
    """A configuration of two stages in a folder with its model and data; what is changed to None is left out."""
    if not (folder / "model").exists():
        build_tiny_model(folder / "model", hidden_size=32, layers=2, vocab_size=300, texts=SAMPLE_TEXTS)
    run = RUNS[name]
    for task in range(2):
        records = (
            {
                "prompt": f"What is {i} plus {task}?",
                "completion": f"{i + task}.",
                "solution": ["Count on.", f"{i + task}."],
            }
            | run.get("record", {})
            for i in range(12)
        )
        (folder / f"{task}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    data = {
        "name": "small",
        "model": {"path": str(folder / "model"), **run.get("model", {})},
        "tasks": [
            {"name": f"plus-{task}", "train": str(folder / f"{task}.jsonl"), "test_fraction": 0.25}
            | {"verifier": "judges:by_letters"}
            for task in range(2)
        ],
        "recipe": run["recipe"],
        "train": {
            "steps": 5,
            "prompts_per_step": 2,
            "learning_rate": 1e-3,
            "max_prompt_length": 160,
            "max_completion_length": 6,
            "micro_batch_tokens": 300,
            "save_steps": 2,
        }
        | run.get("train", {})
        | changes.pop("train", {}),
        "eval": {"max_items": 3, "kl_items": 2, "samples": 1, "probe_steps": 2, "probe_items": 2}
        | {"demonstration_items": 0},
    }
    data |= changes
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in data.items() if value is not None}))
    return path


def without_times(value: Any) -> Any:
    """Plain data without what differs between any two runs: seconds, dates and the command."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in ("seconds", "created", "command")}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def left_behind(run: Path) -> dict[str, Any]:
    """All in a run directory that must not depend on interruptions: weights to the bit, numbers without times.

    Of the checkpoints the newest: being asked to end adds some.
    """
    found: dict[str, Any] = {}
    older = {path for folder in run.rglob("checkpoints") for path in sorted(folder.iterdir())[:-1]}
    for file in sorted(run.rglob("*")):
        name = str(file.relative_to(run))
        if file.is_dir() or file.name in ("report.html", "checksums.json") or file.parent in older:
            continue
        if file.suffix == ".jsonl":
            found[name] = [without_times(json.loads(line)) for line in file.read_text().splitlines()]
        elif file.name == "position.json":
            position = json.loads(file.read_text())
            # Sizes and checksums vary with the times in the logs.
            found[name] = {k: v for k, v in position.items() if k not in ("logs", "log_digests")}
        elif file.suffix == ".json" and "models" not in name:
            found[name] = without_times(json.loads(file.read_text()))
        elif file.suffix == ".safetensors":
            found[name] = {key: (t.dtype, t.shape, t.numpy().tobytes()) for key, t in load_file(file).items()}
        else:
            found[name] = file.read_bytes()
    return found


def same_measurement(a: Any, b: Any) -> bool:
    """Whether two pieces of plain data say the same, numbers to float32's rounding."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_measurement(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_measurement, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-9)
    return bool(a == b)


def assert_same(run: Path, other: Path) -> None:
    """Two runs have left the same behind, bit for bit.

    But for the drift of weights, which decides nothing: its decompositions may round otherwise in another process.
    """
    first, second = left_behind(run), left_behind(other)
    assert first.keys() == second.keys()
    drifts = [
        (found.pop("drift", None) if name == "summary.json" else found if name.startswith("drift/") else None)
        for both in (first, second)
        for name, found in sorted(both.items())
    ]
    half = len(drifts) // 2
    assert same_measurement(drifts[:half], drifts[half:])
    different = [name for name in first if first[name] != second[name] and not name.startswith("drift/")]
    assert not different, different


def metrics_records(run: Path) -> list[dict[str, Any]]:
    """What a run logged of its steps."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_alike(run: Path, other: Path) -> None:
    """Two runs took the same steps on the same tokens, to rounding."""
    first, second = metrics_records(run), metrics_records(other)
    assert len(first) == len(second)
    for one, two in zip(first, second, strict=True):
        assert one.keys() == two.keys()
        for key in one.keys() - {"seconds"}:
            exact = not isinstance(one[key], float)
            assert two[key] == (one[key] if exact else pytest.approx(one[key], rel=1e-2, abs=1e-4)), (key, one["step"])
