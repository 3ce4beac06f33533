"""`holdfast.stream.run`: two processes give what one gives, with hints, revisions, near-future answers and a probe."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from processes import start
from small_runs import assert_alike, without_times, write_config

pytestmark = pytest.mark.processes

SHOWS = {
    "actguide": "guided_fraction",
    "sd_zero": "right_revision_fraction",
    "npo": "guided_fraction",
    "auto_npo": "guided_fraction",
    "atesd": "probe_loss",
}
"""A metric that is above 0 in some step if the recipe has done what only it does."""


def _lines(run: Path, log: str) -> list[dict[str, Any]]:
    path = run / log
    return [without_times(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def _written(run: Path) -> list[Any]:
    """All samples: the logged rollouts, and the near-future answers by file and prompt."""
    rollouts = [(line["stage"], line["step"], line["id"], line["completion"]) for line in _lines(run, "rollouts.jsonl")]
    answers = [
        (path.name, name, [row["completion_ids"] for row in rows])
        for path in sorted(run.glob("guides/*"))
        for name, rows in json.loads(path.read_text())["answers"].items()
    ]
    return [*rollouts, *answers]


def _weights(model: Path) -> Tensor:
    """All weights of a saved model, flat."""
    weights = load_file(model / "model.safetensors")
    return torch.cat([weights[name].flatten() for name in sorted(weights)])


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
    first_stage, last_stage = ([_weights(run / "models" / f"stage-{stage}") for run in (one, two)] for stage in (1, 2))
    assert float((first_stage[0] - last_stage[0]).abs().max()) > 1e-3, "the run has trained"
    apart = torch.cat([(first_stage[0] - first_stage[1]).abs(), (last_stage[0] - last_stage[1]).abs()])
    print(name, float(apart.max()), float((apart > 1e-4).float().mean()))
    # Adam's first step moves a weight by the whole rate, 1e-3. Rounding may flip its sign if the gradient is near 0.
    assert float((apart > 1e-4).float().mean()) < 1e-2
    assert float(apart.max()) < 1e-2
