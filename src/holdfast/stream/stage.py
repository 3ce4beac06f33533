"""The step loop of one stage: collect, annotate, step, log, guard, save, probe."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from holdfast.config.settings import RunConfig
from holdfast.data.batch_metrics import EMPTY_BATCH, rollout_numbers, some_rows
from holdfast.data.failures import add_failures, count_failures
from holdfast.data.rows import Row
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Task
from holdfast.guard.guard import Decision
from holdfast.model.processes import Processes
from holdfast.recipes.base.recipe import Recipe
from holdfast.rollouts.collect import Collector
from holdfast.store.files import json_safe
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.checkpoints import RunCheckpoints
from holdfast.stream.guard_actions import RunGuard
from holdfast.stream.learner import Learner
from holdfast.stream.logs import steps_before
from holdfast.stream.measuring import Measuring
from holdfast.stream.near_future.answers import NearFuture
from holdfast.stream.observer import Observer
from holdfast.stream.position import Position, RolloutBatch
from holdfast.stream.rewind import Rewind
from holdfast.train.step import NotFiniteError, learning_rate


class StageLoop:
    """Takes the optimizer steps of a stage."""

    def __init__(
        self,
        config: RunConfig,
        directory: RunDirectory,
        learner: Learner,
        collector: Collector,
        measuring: Measuring,
        guard: RunGuard,
        near_future: NearFuture,
        checkpoints: RunCheckpoints,
        rewind: Rewind,
        observer: Observer,
    ) -> None:
        self.config, self.directory, self.observer = config, directory, observer
        self.learner, self.teacher, self.collector, self.measuring = learner, learner.teacher, collector, measuring
        self.guard, self.near_future, self.checkpoints, self.rewind = guard, near_future, checkpoints, rewind
        self.world = Processes.current()
        self._steps_before = 0
        """Optimizer steps of the stages before."""

    def train(self, position: Position) -> None:
        """Take optimizer steps from a position to the end of its stage, or until the guard ends it.

        The guard, or the recipe's near future, may take the run back. The loop then resumes from the earlier position.

        Raises:
            NotFiniteError: loss or gradient of a step is not finite, and the guard does not handle it.
            Stopped: a signal asked for it. `checkpoints.unsaved` is the position after the latest step.
        """
        train, stage = self.config.train, position.stage
        task, steps = self.learner.tasks[stage - 1], self.learner.steps[stage - 1]
        steps_per_batch = self.config.recipe.rollout_spec().num_iterations
        self.observer.stage_started(stage, task.name, steps, position.step)
        self._steps_before = self.world.main(lambda: steps_before(self.directory, stage))
        self.measuring.keep(stage, position.step, saved=True)
        position = self._probe(position)  # a checkpoint is written before its step's probe, so this one may be missing

        while (position.step < steps or self.near_future.due) and not self.guard.changes.ends:
            self.learner.poll()
            if self.near_future.due:
                position = self.rewind.return_with_answers(position, self._steps_before + position.step)
                self.measuring.keep(stage, position.step, saved=True)
                position = self._probe(position)
                continue

            # The recipe, as its controllers set it for this step. Random draws are named after the step, not counted,
            # so a resumed run repeats them without the state of any generator.
            step, trainer, controls, batch = position.step, position.trainer, position.controls, position.batch
            assert trainer is not None
            assert controls is not None
            torch.manual_seed(derive_seed(self.config.seed, "step", stage, step))
            started = time.perf_counter()
            settings = controls.settings(step)
            recipe = controls.recipe(settings)
            trainer.objective = recipe.objective()

            # Collect and annotate rows, if no steps on the last rollout batch are left.
            is_first = batch is None
            rollout_metrics, probe_metrics = dict[str, Any](), dict[str, float]()
            if batch is None:
                probe_metrics, probe_cost = self._learning_probe(position, task)
                batch = self._collect(position, task, step // steps_per_batch, recipe, probe_cost)
                rollout_metrics = batch.rollout_metrics
            is_last = (step + 1) % steps_per_batch == 0 or step + 1 == steps

            # Step: forward, backward, optimizer. If something is not finite, no weight has moved.
            rate = learning_rate(train, step, steps) * self.guard.changes.rate_factor
            where = f"stage {stage} ({task.name}), step {step + 1}"
            failure: NotFiniteError | None = None
            try:
                metrics = trainer.step(batch.rows, rate, where=where, first=is_first, more=not is_last)
            except NotFiniteError as error:
                trainer.forget()  # the signals of teacher and base that were kept for further steps
                failure, metrics = error, error.numbers | {"learning_rate": rate}
            if is_last:
                self._move_teacher(batch, failed=failure is not None)
            position = Position(stage, step + 1, trainer, None if is_last else batch, controls)
            self.checkpoints.unsaved = position

            # Log.
            if self.teacher is not None and self.teacher.spec.kind in ("periodic", "gated"):
                metrics["teacher_refreshes"] = self.teacher.refreshes
            record = {"stage": stage, "step": step + 1, "task": task.name} | metrics
            record |= EMPTY_BATCH | rollout_metrics | batch.recipe_metrics | settings | probe_metrics
            self.near_future.see(step + 1, record, batch.rows, first=is_first)
            record |= self.near_future.numbers()
            if failure is None:
                controls.see(record)
            record["seconds"] = time.perf_counter() - started
            self._log(record)

            # Guard.
            decisions = self.guard.see(record | {"global_step": self._steps_before + step + 1}, batch.rows)
            if failure is not None and not self.guard.continues_after_not_finite:
                self.guard.write(decisions, [f"the run ends: {failure.what}"], self.observer)
                raise failure
            position = self._carry_out(decisions, position)
            if "roll_back" in _actions(decisions):
                continue  # the restored position is saved, and has been probed

            # Save. A probe comes after it, because a probe may lead to a roll-back to this very checkpoint.
            is_regular = position.step % train.save_steps == 0 and position.step < steps
            if is_regular:
                self._log_rollouts(position, batch.rows)
            saves = is_regular or self.near_future.needs_checkpoint(position.step)
            if saves:
                self.checkpoints.save(position)
            self.measuring.keep(stage, position.step, saved=saves)

            # Probe.
            position = self._probe(position)

    def _learning_probe(self, position: Position, task: Task) -> tuple[dict[str, float], dict[str, Any]]:
        """The loss on fixed prompts that a controller learns from, if it is due before the next step.

        Returns:
            "probe_loss", and the cost: "completions", "generated_tokens" and how many were not judged. Both are empty
            if no probe is due.
        """
        probe = self.config.recipe.probe()
        if probe is None or position.step % probe.every:
            return {}, {}
        assert position.trainer is not None
        assert position.controls is not None
        rows = self.collector.probe(task, position.stage, probe.prompts, position.controls.recipe(probe.settings))
        loss = position.trainer.measure(rows, where=f"probe of stage {position.stage} ({task.name})")["loss"]
        tokens = sum(len(row.own_ids()) for row in rows)
        cost = {"completions": len(rows), "generated_tokens": tokens, **count_failures(row.verdict for row in rows)}
        return {"probe_loss": loss}, cost

    def _collect(
        self, position: Position, task: Task, number: int, recipe: Recipe, probe_cost: Mapping[str, Any]
    ) -> RolloutBatch:
        """The annotated rows of rollout batch `number` (from 0) of the stage.

        Args:
            probe_cost: of a learning probe. It counts as the batch's.
        """
        groups, recipe_metrics = self.collector.collect(task, position.stage, number, recipe)
        rollout_metrics = rollout_numbers(groups)
        for name in ("completions", "generated_tokens"):
            rollout_metrics[name] += probe_cost.get(name, 0)
        rollout_metrics |= add_failures([rollout_metrics, probe_cost])
        rows = [row for group in groups for row in group.rows]
        self.guard.mask(rows)
        return RolloutBatch(rows, dict(recipe_metrics), rollout_metrics)

    def _move_teacher(self, batch: RolloutBatch, *, failed: bool) -> None:
        """Let the teacher follow the student after a rollout batch. After a failed step there is nothing to follow."""
        if self.teacher is None:
            return
        if failed:
            self.teacher.after_skipped_batch()
        else:
            self.teacher.after_rollout_batch(batch.rollout_metrics)

    def _log(self, record: dict[str, Any]) -> None:
        if self.world.is_main:
            self.directory.append("metrics.jsonl", json_safe(record))
        self.observer.step_done(record)

    def _log_rollouts(self, position: Position, rows: list[Row]) -> None:
        for row in some_rows(rows) if self.world.is_main else ():
            self.directory.append("rollouts.jsonl", {"stage": position.stage, "step": position.step, **row})

    def _carry_out(self, decisions: Sequence[Decision], position: Position) -> Position:
        """Carry out all decisions of a step or probe together, and return the position to resume from."""
        if not decisions:
            return position
        actions = _actions(decisions) - {"warn"}
        if "roll_back" in actions:
            position = self.rewind.roll_back(position, decisions, actions)
            self.measuring.keep(position.stage, position.step, saved=True)
            return self._probe(position)
        demonstrations = self.collector.demonstrations(self.learner.tasks[position.stage - 1])
        outcome = self.guard.apply(actions, demonstrations, rolled_back=False)
        self.guard.write(decisions, outcome, self.observer)
        return position

    def _probe(self, position: Position) -> Position:
        """Probe if it is due, and return the position to resume from: the guard may take the run back."""
        steps = self.learner.steps[position.stage - 1]
        if self.guard.changes.ends or not self.measuring.probe_is_due(position.step, steps):
            return position
        record = self.measuring.probe(position.stage, position.step)
        return position if record is None else self._carry_out(self.guard.see_probe(record), position)


def _actions(decisions: Sequence[Decision]) -> set[Any]:
    return {action for decision in decisions for action in decision.actions}
