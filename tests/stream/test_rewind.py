"""`holdfast.stream.rewind`: runs that the guard rolls back, with a recipe that also plans returns."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.config.load import load_config
from holdfast.config.settings import RunConfig
from holdfast.guard.settings import Rules
from holdfast.stream.near_future.answers import NearFuture
from holdfast.stream.near_future.triggers import WhenStalled
from holdfast.train.step import NotFiniteError, StageTrainer
from small_runs import RUNS, write_config


def test_after_a_roll_back_only_checkpoints_that_are_still_there_are_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoint 20 knows of 5 to 20; by step 34 the candidates are 15 to 30, and 5 and 10 are gone."""
    recipe = {**RUNS["auto_npo"]["recipe"], "num_iterations": 1, "every": 5, "candidates": 4}
    # 20 has been healthy for two windows since step 30, and 25 would be from step 35 on.
    rules = {name: {"action": []} for name in Rules.model_fields if name not in ("not_finite", "kl_budget")}
    config = write_config(
        tmp_path,
        "auto_npo",
        recipe=recipe,
        guard={"mode": "act", "window": 5, "rules": rules},
        train={"steps": 38, "save_steps": 5},
        eval={"max_items": 2, "kl_items": 0, "samples": 0},
    )
    run = tmp_path / "run"
    step, choose = StageTrainer.step, NearFuture.choose
    candidates: list[list[int]] = []

    def not_finite_once(self: StageTrainer, *args: Any, where: str, **kwargs: Any) -> dict[str, Any]:
        numbers = step(self, *args, where=where, **kwargs)
        if where == "stage 1 (plus-0), step 34" and not (run / "decisions.jsonl").exists():
            raise NotFiniteError("the gradient's norm is inf", where, numbers | {"grad_norm": math.inf})
        return numbers

    def noted(self: NearFuture, *args: Any) -> Any:
        candidates.append(sorted(self.checkpoints))
        return choose(self, *args)

    def is_due(self: WhenStalled) -> bool:
        """Three rollout batches after the roll-back."""
        return self.rounds == 0 and self.stalled_batches == 23 and (run / "decisions.jsonl").exists()

    monkeypatch.setattr(StageTrainer, "step", not_finite_once)
    monkeypatch.setattr(NearFuture, "choose", noted)
    monkeypatch.setattr(WhenStalled, "due", property(is_due))
    holdfast.run(load_config(config, RunConfig), run)
    first, second = [json.loads(line) for line in (run / "decisions.jsonl").read_text().splitlines()][:2]
    assert (first["rule"], first["step"]) == ("not_finite", 34)
    assert first["outcome"].startswith("back to step 20 of stage 1")
    assert (second["rule"], second["step"]) == ("near_future", 23)
    assert candidates[0] == [15, 20, 23]
