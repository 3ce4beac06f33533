"""How a run rolls back to an earlier checkpoint: because the guard asks for it, or because its recipe planned it.

A kill at any moment does not change the result. Until the new checkpoint is in place, the newest one is from before the
decision, which the resumed run makes again. From then on the logs are cut to where the new checkpoint is.
"""

from collections.abc import Sequence
from dataclasses import replace

from holdfast.config.settings import RunConfig
from holdfast.guard.guard import Decision
from holdfast.guard.settings import Action
from holdfast.model.processes import Processes
from holdfast.rollouts.collect import Collector
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.checkpoints import RunCheckpoints
from holdfast.stream.guard_actions import RunGuard
from holdfast.stream.learner import Learner
from holdfast.stream.logs import cut_lengths, first_undamaged, keep_discarded
from holdfast.stream.near_future.answers import NearFuture
from holdfast.stream.observer import Observer
from holdfast.stream.position import Position
from holdfast.train.checkpoint import Checkpoint, open_checkpoint


class Rewind:
    """Rolls a run back, and accounts for it in the logs, the checkpoints, the guard and the near future."""

    def __init__(
        self,
        config: RunConfig,
        directory: RunDirectory,
        learner: Learner,
        collector: Collector,
        checkpoints: RunCheckpoints,
        guard: RunGuard,
        near_future: NearFuture,
        observer: Observer,
    ) -> None:
        self.config, self.directory, self.learner, self.collector = config, directory, learner, collector
        self.checkpoints, self.guard, self.near_future, self.observer = checkpoints, guard, near_future, observer
        self.world = Processes.current()

    def roll_back(self, position: Position, decisions: Sequence[Decision], actions: set[Action]) -> Position:
        """Roll back to the latest healthy checkpoint of the stage, and carry out the guard's other actions there.

        Args:
            actions: of all decisions together.

        Returns:
            The position to resume from. Without an undamaged checkpoint it is the old one, and the stage ends.
        """
        guard, stage = self.guard, position.stage
        demonstrations = self.collector.demonstrations(self.learner.tasks[stage - 1])
        if guard.changes.roll_backs >= self.config.guard.max_roll_backs and "stop" not in actions:
            actions = actions | {"end_stage"}
        checkpoint, faults = first_undamaged(self.directory, guard.healthy.newest_first())
        if checkpoint is None:
            outcome = [f"no undamaged checkpoint to go back to ({'; '.join(faults)})"]
            outcome += guard.apply(actions | {"end_stage"}, demonstrations, rolled_back=False)
            guard.write(decisions, outcome, self.observer)
            return position
        restored = self.learner.restore(checkpoint)
        undone = position.step - restored.step
        outcome = [f"back to step {restored.step} of stage {stage}", *(f"skipped: {fault}" for fault in faults)]
        outcome += guard.apply(actions, demonstrations, rolled_back=True)
        if restored.batch is not None and restored.trainer is not None:
            # In the middle of a rollout batch, the changes must reach its rows and its kept teacher signals too.
            guard.mask(restored.batch.rows)
            if "refresh_teacher" in actions:
                restored.trainer.forget()
        guard.load_completions(checkpoint.position["guard"])
        self.checkpoints.load_near_future(checkpoint, with_undone=False)
        guard.rolled_back(undone, self.checkpoints.number(restored), checkpoint.number)
        self._finish(restored, checkpoint, undone, decisions, outcome)
        return restored

    def return_with_answers(self, position: Position, global_step: int) -> Position:
        """Roll back as the recipe plans it, with correct answers of a later model to the coming prompts.

        Args:
            global_step: optimizer steps of the run so far.

        Returns:
            The position to resume from. It is the old one if no later model answers a failed prompt correctly.
        """
        stage, task, near_future = position.stage, self.learner.tasks[position.stage - 1], self.near_future
        choice = near_future.choose(task, stage)
        decision = Decision(
            rule="near_future",
            stage=stage,
            step=position.step,
            global_step=global_step,
            task=task.name,
            severity="note",
            actions=("warn",),
            values={},
            message="The recipe looks for correct answers of later checkpoints.",
        )
        if choice is None:
            near_future.stay(position.step)
            decision = replace(decision, values=near_future.not_judged())
            self.guard.write([decision], ["no failed prompt has one; the run continues"], self.observer)
            return position
        checkpoint = open_checkpoint(self.directory.checkpoint(near_future.checkpoints[choice.back_to]))
        undone = position.step - choice.back_to
        number = self.checkpoints.number(Position(stage, choice.back_to)) + undone + 1
        # From the first batch that starts at or after the step to go back to, to the end of the stage.
        iterations = self.config.recipe.rollout_spec().num_iterations
        batches = range(*(-(-step // iterations) for step in (choice.back_to, self.learner.steps[stage - 1])))
        pool = near_future.collect(task, stage, choice, batches, f"{number:08d}")
        restored = self.learner.restore(checkpoint)
        choice = near_future.measured(choice, pool)
        decision = replace(decision, actions=("roll_back",), values=choice.values() | near_future.not_judged())
        near_future.went_back(undone, restored.step, number)
        self.guard.follow_return(checkpoint.position.get("guard", {}), number, checkpoint.number)
        outcome = [f"back to step {restored.step}, with answers to {len(pool.answers)} prompts"]
        self._finish(restored, checkpoint, undone, [decision], outcome)
        return restored

    def _finish(
        self,
        position: Position,
        checkpoint: Checkpoint,
        undone: int,
        decisions: Sequence[Decision],
        outcome: Sequence[str],
    ) -> None:
        """Bring logs and checkpoints to a restored position.

        The order makes a kill harmless: what is undone is copied first, and cut only after the new checkpoint is there.

        Args:
            checkpoint: what the position was restored from.
            undone: optimizer steps.
        """
        lengths = checkpoint.position["logs"]
        index = self.world.main(lambda: len(list(self.directory.records("decisions.jsonl"))))
        self.world.main(lambda: keep_discarded(self.directory, lengths, index))
        self.guard.write(decisions, outcome, self.observer)
        self.checkpoints.save(position, went_back_to=checkpoint)
        self.checkpoints.remove_undone(checkpoint.number, self.checkpoints.number(position))
        self.world.main(lambda: self.directory.cut(cut_lengths(self.directory.lengths(), lengths)))
        self.guard.replay_logs()
        self.observer.rolled_back(undone)
