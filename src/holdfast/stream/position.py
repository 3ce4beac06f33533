"""Where a run stands, and how a checkpoint holds it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from holdfast.data.rows import Row
from holdfast.data.rows_json import rows_as_json, rows_from_json
from holdfast.data.task import Task
from holdfast.model.policy import Policy
from holdfast.stream.controls import Controls
from holdfast.train.checkpoint import Checkpoint, Groups
from holdfast.train.step import StageTrainer


@dataclass
class RolloutBatch:
    """A rollout batch with optimizer steps left, and what the recipe says about it."""

    rows: list[Row]
    said: dict[str, float]
    measured: dict[str, Any]
    """Of the rollouts, as the log's line of the first step on them has it."""


@dataclass
class Position:
    """Where a run stands: after `step` optimizer steps of stage `stage` (from 1), which `trainer` takes."""

    stage: int
    step: int
    trainer: StageTrainer | None = None
    batch: RolloutBatch | None = None
    controls: Controls | None = None


class Keeper(Protocol):
    """What lives as long as the run and changes on the way: a teacher, a penalty."""

    def state(self) -> Mapping[str, torch.Tensor]: ...
    def like(self, name: str) -> torch.Tensor | None:
        """A tensor that the one of this name in `state` is spread over processes and devices like; see `Checkpoint`."""

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> None: ...
    def progress(self) -> Mapping[str, Any]:
        """The rest of it, as plain data."""

    def load_progress(self, saved: Mapping[str, Any]) -> None: ...


Keepers = Mapping[str, Keeper]
"""By the name of their group in a checkpoint."""


def as_groups(position: Position, policy: Policy, keepers: Keepers) -> tuple[Groups, dict[str, Any]]:
    """What a checkpoint of a position holds, with the weights as they are: tensors by group, and plain data."""
    groups: dict[str, Mapping[str, torch.Tensor]] = {"policy": dict(policy.named_trainable())}
    saved: dict[str, Any] = {"stage": position.stage, "step": position.step}
    if position.batch is not None:
        batch = position.batch
        saved["batch"] = {"rows": rows_as_json(batch.rows), "said": batch.said, "measured": batch.measured}
    if position.trainer is not None:
        groups["optimizer"] = position.trainer.state(position.batch.rows if position.batch else ())
    if position.controls is not None:
        saved["controllers"] = position.controls.state()
    for name, keeper in keepers.items():
        groups[name] = keeper.state()
        saved[name] = dict(keeper.progress())
    return groups, saved


@torch.no_grad()
def load_weights(checkpoint: Checkpoint, policy: Policy) -> None:
    """Give a policy the weights of a checkpoint, in place."""
    trainable = policy.named_trainable()
    for name, value in checkpoint.load("policy", trainable.get).items():
        trainable[name].copy_(value)


def restored(
    checkpoint: Checkpoint,
    policy: Policy,
    keepers: Keepers,
    tasks: list[Task],
    make_trainer: Callable[[], StageTrainer],
    make_controls: Callable[[int], Controls],
) -> Position:
    """Take everything back from a checkpoint: weights and averages in place, the position as it was."""
    saved = checkpoint.position
    load_weights(checkpoint, policy)
    for name, keeper in keepers.items():
        keeper.load_state(checkpoint.load(name, keeper.like))
        keeper.load_progress(saved[name])
    position = Position(saved["stage"], saved["step"])
    if batch := saved.get("batch"):
        *before, task = tasks[: position.stage]
        rows = rows_from_json(batch["rows"], task.train, [example for old in before for example in old.train])
        position.batch = RolloutBatch(rows, batch["said"], batch["measured"])
    if position.step > 0:
        position.controls = make_controls(position.stage)
        position.controls.load_state(saved["controllers"])
        position.trainer = make_trainer()
        like = position.trainer.parameters
        found = checkpoint.load("optimizer", lambda name: like.get(name.partition(".")[2]))
        position.trainer.load_state(found, position.batch.rows if position.batch else ())
    return position
