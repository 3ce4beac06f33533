"""Checkpoints of a run: their numbers, what each holds, and which are kept."""

from holdfast.model.processes import Processes
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.guard_actions import RunGuard
from holdfast.stream.kept_weights import KeptWeights
from holdfast.stream.learner import Learner
from holdfast.stream.logs import cut_lengths
from holdfast.stream.near_future.answers import NearFuture
from holdfast.stream.position import Position
from holdfast.train.checkpoint import Checkpoint, remove_between, save_checkpoint


class RunCheckpoints:
    """Saves positions of a run. A checkpoint holds the learner, the guard and the near future."""

    def __init__(
        self,
        directory: RunDirectory,
        learner: Learner,
        guard: RunGuard,
        near_future: NearFuture,
        kept_weights: KeptWeights,
    ) -> None:
        self.directory, self.learner, self.guard, self.near_future = directory, learner, guard, near_future
        self.kept_weights = kept_weights
        self.world = Processes.current()
        self.unsaved: Position | None = None
        """The position after the latest optimizer step, if no checkpoint holds it."""

    def number(self, position: Position) -> int:
        """The number of a position's checkpoint.

        It counts optimizer steps, plus what roll-backs and returns add. So the newest checkpoint has the highest number
        even if the run has gone back.
        """
        steps = sum(self.learner.steps[: position.stage - 1]) + position.step
        return steps + self.guard.undone + self.near_future.undone

    def save(self, position: Position, *, is_planned: bool = True, went_back_to: Checkpoint | None = None) -> None:
        """Write a checkpoint of a position, with the current weights.

        Args:
            is_planned: a run that is never interrupted would write it too. Only such a checkpoint may become one to go
                back to; otherwise an interrupted run could go back elsewhere.
            went_back_to: the checkpoint that a roll-back or a return took the position from.
        """
        number = self.number(position)
        if is_planned and went_back_to is None:
            self.guard.add_candidate(number, position.step)
            self.near_future.add_candidate(number, position.step)
        groups, saved = self.learner.state(position)
        saved["logs"], saved["log_digests"] = self.world.main(lambda: self._logs(went_back_to))
        if went_back_to is not None:
            saved["went_back_to"] = went_back_to.number
        if guard := self.guard.state():
            saved["guard"] = guard
        if near_future := self.near_future.state():
            saved["scouting"] = near_future
        needed = self.guard.needed_checkpoints() | self.near_future.needed_checkpoints()
        # What the checkpoint relies on is on disk before it is.
        self.kept_weights.flush()
        save_checkpoint(self.directory.checkpoints, number, groups, saved, spare=needed)
        self.world.main(self.directory.checksums.note_checkpoint)
        self.unsaved = None

    def _logs(self, went_back_to: Checkpoint | None) -> tuple[dict[str, int], dict[str, str]]:
        """Lengths and checksums of the logs for a new checkpoint, after flushing them."""
        self.directory.lock.check()
        self.directory.logs.flush()
        lengths = self.directory.lengths()
        if went_back_to is not None:
            # The logs are cut only once this checkpoint is in place. It already holds their length after the cut.
            lengths = cut_lengths(lengths, went_back_to.position["logs"])
        return lengths, self.directory.logs.digests(lengths)

    def save_interrupted(self) -> None:
        """Save the position after the latest optimizer step, unless a checkpoint holds it."""
        if self.unsaved is not None:
            self.save(self.unsaved, is_planned=False)

    def resume(self, checkpoint: Checkpoint) -> Position:
        """Restore everything that a checkpoint holds, after a process has ended."""
        self.guard.load_state(checkpoint.position.get("guard", {}))
        self.load_near_future(checkpoint)
        if (went_back_to := checkpoint.position.get("went_back_to")) is not None:
            # The process may have been killed before it removed them.
            self.remove_undone(went_back_to, checkpoint.number)
        return self.learner.restore(checkpoint)

    def load_near_future(self, checkpoint: Checkpoint, *, with_undone: bool = True) -> None:
        """Restore what a checkpoint holds of the near future; arguments as for `NearFuture.load_state`."""
        stage, tasks = checkpoint.position["stage"], self.learner.tasks
        task = tasks[stage - 1] if stage <= len(tasks) else None
        self.near_future.load_state(checkpoint.position.get("scouting", {}), task, with_undone=with_undone)

    def remove_undone(self, went_back_to: int, newest: int) -> None:
        """Remove the checkpoints of undone steps: the logs no longer hold these steps."""
        self.world.main(lambda: remove_between(self.directory.checkpoints, went_back_to, newest))
