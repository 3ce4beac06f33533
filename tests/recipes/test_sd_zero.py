"""`holdfast.recipes.sd_zero`: phase 2 starts with the student as the teacher, whatever a guard did in phase 1."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import holdfast
from holdfast.config.load import load_config
from holdfast.config.settings import RunConfig
from holdfast.train.step import StageTrainer
from small_runs import write_config

SRT_STEPS = 3

Weights = dict[str, dict[str, Tensor]]


@pytest.fixture
def spoilt() -> set[int]:
    """Steps of every stage whose gradient is not finite."""
    return set()


@pytest.fixture
def seen(spoilt: set[int], monkeypatch: pytest.MonkeyPatch) -> tuple[Weights, Weights]:
    """The weights of student and teacher at the start of every step, by the step's name."""
    step, norm = StageTrainer.step, StageTrainer._clipped_norm
    place = [""]
    students: Weights = {}
    teachers: Weights = {}

    def noted(self: StageTrainer, *args: Any, where: str, **kwargs: Any) -> dict[str, Any]:
        place[0] = where
        assert self.teacher is not None
        students[where] = {name: p.detach().clone() for name, p in self.parameters.items()}
        teachers[where] = {name: p.clone() for name, p in self.teacher.state().items()}
        return step(self, *args, where=where, **kwargs)

    def clipped(self: StageTrainer) -> float:
        return norm(self) * (math.inf if int(place[0].rpartition(" ")[2]) in spoilt else 1.0)

    monkeypatch.setattr(StageTrainer, "step", noted)
    monkeypatch.setattr(StageTrainer, "_clipped_norm", clipped)
    return students, teachers


def configured(folder: Path, action: str, **recipe: Any) -> RunConfig:
    """A run whose guard acts on gradients that are not finite."""
    # So that every step of phase 1 has something to train on: the tiny model corrects few answers.
    often = {"num_generations": 8, "srt_part": 2, "revise_right_answers": True}
    recipe = {"name": "sd_zero", "srt_steps": SRT_STEPS, **often, **recipe}
    guard = {"mode": "act", "rules": {"not_finite": {"action": [action]}}}
    return load_config(write_config(folder, "sd_zero", recipe=recipe, guard=guard), RunConfig)


def named(stage: int, step: int) -> str:
    return f"stage {stage} (plus-{stage - 1}), step {step}"


def refreshes(run: Path) -> list[int]:
    return [json.loads(line)["teacher_refreshes"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("lost", [2, SRT_STEPS])
def test_the_teacher_is_taken_at_the_phase_change_whatever_a_step_before_it_took(
    tmp_path: Path, seen: tuple[Weights, Weights], spoilt: set[int], lost: int
) -> None:
    """The guard skips step `lost`, whose gradient is not finite, and the run continues."""
    students, teachers = seen
    spoilt.add(lost)
    decided = holdfast.run(configured(tmp_path, "lower_rate"), tmp_path / "run")["decisions"]
    assert [(d["rule"], d["stage"], d["step"]) for d in decided] == [("not_finite", 1, lost), ("not_finite", 2, lost)]
    for stage in (1, 2):
        began, changed, last = (named(stage, n) for n in (1, SRT_STEPS + 1, 5))
        for name, weight in students[changed].items():
            assert torch.equal(teachers[changed][name], weight)
            assert torch.equal(teachers[last][name], weight), "from then on it stands still"
        assert any(not torch.equal(weight, students[began][name]) for name, weight in students[changed].items())
    assert refreshes(tmp_path / "run") == [0, 0, 1, 1, 1] * 2


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize(("frozen_at", "since"), [(2, " after its first refresh"), (SRT_STEPS, "")])
def test_a_teacher_that_is_frozen_in_the_first_phase_is_taken_at_its_end_and_stands_still_from_there(
    tmp_path: Path,
    seen: tuple[Weights, Weights],
    spoilt: set[int],
    monkeypatch: pytest.MonkeyPatch,
    frozen_at: int,
    since: str,
    interrupted: bool,
) -> None:
    """Otherwise it would be refreshed after every later batch. Also if the run resumes from a later checkpoint."""
    students, teachers = seen
    spoilt.add(frozen_at)
    config = configured(tmp_path, "freeze_teacher", sync_every=1)
    run = tmp_path / "run"
    if interrupted:
        step = StageTrainer.step

        def broken(self: StageTrainer, *args: Any, where: str, **kwargs: Any) -> dict[str, Any]:
            if where == named(1, frozen_at + 1):
                raise KeyboardInterrupt
            return step(self, *args, where=where, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(StageTrainer, "step", broken)
            with pytest.raises(KeyboardInterrupt):
                holdfast.run(config, run)
        decided = holdfast.resume(run)["decisions"]
    else:
        decided = holdfast.run(config, run)["decisions"]
    assert [(d["stage"], d["step"], d["outcome"]) for d in decided] == [
        (stage, frozen_at, f"the teacher is frozen{since}") for stage in (1, 2)
    ]
    for stage in (1, 2):
        changed, last = named(stage, SRT_STEPS + 1), named(stage, 5)
        for name, weight in students[changed].items():
            assert torch.equal(teachers[changed][name], weight)
            assert torch.equal(teachers[last][name], weight)
        assert any(not torch.equal(weight, students[last][name]) for name, weight in students[changed].items())
    assert refreshes(run) == [0, 0, 1, 1, 1] * 2
