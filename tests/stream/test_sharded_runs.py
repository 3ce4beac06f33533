"""Whole runs of two processes come to what one comes to: hints, revisions, ways back with guides, a probe."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from processes import start
from small_runs import assert_alike, without_times, write_config

SHOWS = {
    "actguide": "guided_fraction",
    "sd_zero": "right_revision_fraction",
    "npo": "guided_fraction",
    "auto_npo": "guided_fraction",
    "atesd": "probe_loss",
}
"""A number that the log of some step has, above 0, where a recipe has done what it alone does."""


def _lines(run: Path, log: str) -> list[dict[str, Any]]:
    path = run / log
    return [without_times(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def _written(run: Path) -> list[Any]:
    """What was sampled: the rollouts that are kept, and the guides with who said them."""
    rollouts = [(line["stage"], line["step"], line["id"], line["completion"]) for line in _lines(run, "rollouts.jsonl")]
    guides = [
        (path.name, name, [row["completion_ids"] for row in rows])
        for path in sorted(run.glob("guides/*"))
        for name, rows in json.loads(path.read_text())["answers"].items()
    ]
    return [*rollouts, *guides]


def _weights(model: Path) -> Tensor:
    """All of them, flat."""
    found = load_file(model / "model.safetensors")
    return torch.cat([found[name].flatten() for name in sorted(found)])


@pytest.mark.slow
@pytest.mark.parametrize("name", SHOWS)
def test_two_processes_run_as_one(tmp_path: Path, name: str) -> None:
    config = write_config(tmp_path, name)
    one, two = tmp_path / "one", tmp_path / "two"
    start("run", config, "-o", one).finish()
    start("run", config, "-o", two, size=2).finish()
    assert_alike(one, two)
    assert any((line.get(SHOWS[name]) or 0) > 0 for line in _lines(one, "metrics.jsonl"))
    assert _written(one) == _written(two) != []
    first, second = ([{**line, "saw": None} for line in _lines(run, "decisions.jsonl")] for run in (one, two))
    assert first == second
    assert bool(first) == name.endswith("npo")
    begun, ended = ([_weights(run / "models" / f"stage-{stage}") for run in (one, two)] for stage in (1, 2))
    assert float((begun[0] - ended[0]).abs().max()) > 1e-3, "it has trained"
    apart = torch.cat([(begun[0] - begun[1]).abs(), (ended[0] - ended[1]).abs()])
    print(name, float(apart.max()), float((apart > 1e-4).float().mean()))
    # Adam's first step moves a weight by the whole rate, 1e-3, whichever way rounding tips a gradient near 0.
    assert float((apart > 1e-4).float().mean()) < 1e-2
    assert float(apart.max()) < 1e-2
