"""What learns in a run: how a stage of it starts, what a checkpoint holds of it, and how it is restored."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

from holdfast.config.settings import RunConfig
from holdfast.data.task import Task
from holdfast.model.base import Base
from holdfast.model.policy import Policy
from holdfast.rollouts.collect import Collector
from holdfast.stream.controls import Controls
from holdfast.stream.position import Position, RolloutBatch
from holdfast.train.checkpoint import Checkpoint, Groups, checkpoint_bytes
from holdfast.train.fisher import fisher_information
from holdfast.train.penalty import Penalty
from holdfast.train.step import StageTrainer
from holdfast.train.teacher import Teacher


class Stateful(Protocol):
    """Something that lasts for the whole run and changes during it: a teacher, a penalty."""

    def state(self) -> Mapping[str, torch.Tensor]: ...
    def like(self, name: str) -> torch.Tensor | None:
        """A tensor whose sharding and device a loaded tensor of this name gets; see `Checkpoint.load`."""

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> None: ...
    def progress(self) -> Mapping[str, Any]:
        """The rest of its state, as plain data."""

    def load_progress(self, saved: Mapping[str, Any]) -> None: ...


class Learner:
    """The student and everything that changes along with it.

    The student, the teacher, the penalty and the controllers that say so last for the whole run. Every stage gets a new
    optimizer and otherwise new controllers, so what a stage learns does not depend on the momentum of the stage before.

    Args:
        tasks: one for each stage.
        steps: optimizer steps of each stage.
        collector: samples the sequences that a penalty estimates Fisher information from.
        poll: called before every micro-batch; may raise to leave a step, which then changes nothing.
    """

    def __init__(
        self,
        config: RunConfig,
        tasks: list[Task],
        steps: list[int],
        policy: Policy,
        base: Base | None,
        teacher: Teacher | None,
        penalty: Penalty | None,
        collector: Collector,
        poll: Callable[[], None],
    ) -> None:
        self.config, self.tasks, self.steps = config, tasks, steps
        self.policy, self.base, self.teacher, self.penalty = policy, base, teacher, penalty
        self.collector, self.poll = collector, poll
        self._lasting = {name: each for name, each in config.recipe.controllers().items() if each.lasts}
        """The controllers that are not replaced at the start of a stage, by the setting's name."""
        self._blended = 0
        """The latest stage whose weights are blended with the base's."""

    def start_stage(self, stage: int, *, with_teacher: bool = True) -> Position:
        """Prepare teacher and penalty for a stage and return its first position.

        Args:
            with_teacher: false keeps the teacher as it is.
        """
        if self.teacher is not None and with_teacher:
            self.teacher.start_stage()
        if self.penalty is not None:
            self.penalty.begin(
                stage,
                lambda: fisher_information(
                    self.policy, self.collector.sequences_before(stage), self.config.train, self.poll
                ),
            )
        return Position(stage, 0, self._trainer(), controls=self._controls(stage))

    def end_stage(self, stage: int) -> None:
        """Blend the weights with the base's after a stage, as the recipe says. A second call changes nothing."""
        share = self.config.recipe.blend_share
        if share < 1 and self._blended < stage:
            assert self.base is not None
            self.base.blend_in(share)
            self._blended = stage

    def state(self, position: Position) -> tuple[Groups, dict[str, Any]]:
        """What a checkpoint holds of a position, with the current weights: tensors by group, and plain data."""
        groups: dict[str, Mapping[str, torch.Tensor]] = {"policy": dict(self.policy.named_trainable())}
        saved: dict[str, Any] = {"stage": position.stage, "step": position.step}
        if self._blended:
            saved["blended"] = self._blended
        if position.batch is not None:
            saved["batch"] = position.batch.as_json()
        if position.trainer is not None:
            groups["optimizer"] = position.trainer.state(position.batch.rows if position.batch else ())
        if position.controls is not None:
            saved["controllers"] = position.controls.state()
        elif self._lasting:
            saved["controllers"] = {name: each.state() for name, each in self._lasting.items()}
        for name, each in self._stateful().items():
            groups[name] = each.state()
            saved[name] = dict(each.progress())
        return groups, saved

    def trained_bytes(self) -> int:
        """Bytes of all trained weights."""
        return checkpoint_bytes({"policy": self.policy.named_trainable()})

    def checkpoint_bytes(self) -> int:
        """Bytes of the tensors of a checkpoint within a stage: the optimizer holds two numbers of each trained weight.

        Signals that are kept for further steps on a rollout batch come on top.
        """
        return 3 * self.trained_bytes() + checkpoint_bytes(
            {name: each.state() for name, each in self._stateful().items()}
        )

    def model_bytes(self) -> int:
        """Bytes of the weights of a saved model."""
        return checkpoint_bytes({"model": dict(self.policy.causal_lm.named_parameters())})

    def restore(self, checkpoint: Checkpoint) -> Position:
        """Load weights, averages and optimizer state of a checkpoint in place, and return its position."""
        saved = checkpoint.position
        load_weights(checkpoint, self.policy)
        self._blended = saved.get("blended", 0)
        for name, each in self._stateful().items():
            each.load_state(checkpoint.load(name, each.like))
            each.load_progress(saved[name])
        for name, controller in self._lasting.items():
            controller.load_state(saved["controllers"][name])
        position = Position(saved["stage"], saved["step"])
        if position.step == 0:
            if position.stage > len(self.tasks):
                return position  # the run is over
            # After a roll-back to the stage's start, the saved teacher has already started the stage. The guard may
            # have changed it since, so starting it again would undo that change.
            rolled_back = saved.get("guard", {}).get("remedies", {}).get("roll_backs", 0)
            return self.start_stage(position.stage, with_teacher=not rolled_back)
        if batch := saved.get("batch"):
            position.batch = RolloutBatch.from_json(batch, self.tasks[: position.stage])
        position.controls = self._controls(position.stage)
        position.controls.load_state(saved["controllers"])
        position.trainer = self._trainer()
        parameters = position.trainer.parameters
        optimizer_state = checkpoint.load("optimizer", lambda name: parameters.get(name.partition(".")[2]))
        position.trainer.load_state(optimizer_state, position.batch.rows if position.batch else ())
        return position

    def _stateful(self) -> dict[str, Stateful]:
        """By the name of their group in a checkpoint."""
        groups: dict[str, Stateful | None] = {"teacher": self.teacher, "penalty": self.penalty}
        return {name: each for name, each in groups.items() if each is not None}

    def _trainer(self) -> StageTrainer:
        recipe = self.config.recipe
        trainer = StageTrainer(
            self.policy, self.teacher, self.base, recipe.objective(), self.config.train, self.penalty
        )
        trainer.poll = self.poll
        return trainer

    def _controls(self, stage: int) -> Controls:
        return Controls(self.config.recipe, self.steps[stage - 1], self.config.seed, stage, lasting=self._lasting)


@torch.no_grad()
def load_weights(checkpoint: Checkpoint, policy: Policy) -> None:
    """Copy the weights of a checkpoint into a policy."""
    trainable = policy.named_trainable()
    for name, value in checkpoint.load("policy", trainable.get).items():
        trainable[name].copy_(value)
