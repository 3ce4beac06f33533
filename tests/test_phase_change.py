"""SD-Zero's second phase begins with the student as its teacher, also where a step of the first took nothing."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import holdfast
from holdfast.config import RunConfig, load_config
from holdfast.train.step import StageTrainer
from small_runs import write_config

SRT_STEPS = 3


@pytest.mark.parametrize("lost", [2, SRT_STEPS])
def test_the_teacher_is_taken_at_the_phase_change_whatever_a_step_before_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """The guard goes on after step `lost`, whose gradient is not finite."""
    recipe = {"name": "sd_zero", "srt_steps": SRT_STEPS, "num_generations": 8}
    guard = {"mode": "act", "rules": {"not_finite": {"action": ["lower_rate"]}}}
    config = load_config(write_config(tmp_path, "sd_zero", recipe=recipe, guard=guard), RunConfig)
    step, norm = StageTrainer.step, StageTrainer._clipped_norm
    place = [""]
    students: dict[str, dict[str, Tensor]] = {}
    teachers: dict[str, dict[str, Tensor]] = {}

    def noted(self: StageTrainer, *args: Any, where: str, **kwargs: Any) -> dict[str, Any]:
        place[0] = where
        assert self.teacher is not None
        students[where] = {name: p.detach().clone() for name, p in self.parameters.items()}
        teachers[where] = {name: p.clone() for name, p in self.teacher.state().items()}
        return step(self, *args, where=where, **kwargs)

    def spoilt(self: StageTrainer) -> float:
        return norm(self) * (math.inf if place[0].endswith(f"step {lost}") else 1.0)

    monkeypatch.setattr(StageTrainer, "step", noted)
    monkeypatch.setattr(StageTrainer, "_clipped_norm", spoilt)
    decided = holdfast.run(config, tmp_path / "run")["decisions"]
    assert [(d["rule"], d["stage"], d["step"]) for d in decided] == [("not_finite", 1, lost), ("not_finite", 2, lost)]
    for stage in (1, 2):
        began, *_, changed, last = (f"stage {stage} (plus-{stage - 1}), step {n}" for n in (1, SRT_STEPS + 1, 5))
        for name, weight in students[changed].items():
            assert torch.equal(teachers[changed][name], weight)
            assert torch.equal(teachers[last][name], weight), "from then on it stands still"
        assert any(not torch.equal(weight, students[began][name]) for name, weight in students[changed].items())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["teacher_refreshes"] for line in lines] == [0, 0, 1, 1, 1] * 2
