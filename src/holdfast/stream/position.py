"""How far a run has come: its stage, its step, and what the next step needs."""

from dataclasses import dataclass
from typing import Any

from holdfast.data.rows import Row
from holdfast.data.rows_json import rows_as_json, rows_from_json
from holdfast.data.task import Task
from holdfast.stream.controls import Controls
from holdfast.train.step import StageTrainer


@dataclass
class RolloutBatch:
    """The rows of one rollout batch. Several optimizer steps may use them."""

    rows: list[Row]
    recipe_metrics: dict[str, float]
    """What the recipe reports about the rows. Every step on them logs it."""
    rollout_metrics: dict[str, Any]
    """Reward, length and cost of the rollouts. Only the first step on them logs it, so that cost counts once."""

    def as_json(self) -> dict[str, Any]:
        """Plain data for a checkpoint. The keys are those of earlier versions."""
        return {"rows": rows_as_json(self.rows), "said": self.recipe_metrics, "measured": self.rollout_metrics}

    @classmethod
    def from_json(cls, saved: dict[str, Any], tasks: list[Task]) -> "RolloutBatch":
        """Read what `as_json` returned.

        Args:
            tasks: the tasks up to and including the batch's stage. Replayed rows come from the earlier ones.
        """
        *earlier, task = tasks
        rows = rows_from_json(saved["rows"], task.train, {each.name: each.train for each in earlier})
        return cls(rows, saved["said"], saved["measured"])


@dataclass
class Position:
    """A run after `step` optimizer steps of stage `stage` (from 1)."""

    stage: int
    step: int
    trainer: StageTrainer | None = None
    """Takes the stage's next step. None before the stage has started."""
    batch: RolloutBatch | None = None
    """The current rollout batch, if optimizer steps on it remain."""
    controls: Controls | None = None
