"""The ways back of a run: to the healthy checkpoint, as the guard decides, or to an earlier one, by its recipe."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from holdfast.config.settings import RunConfig
from holdfast.data.task import Task
from holdfast.guard.guard import Decision
from holdfast.guard.settings import Action
from holdfast.model.processes import Processes
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.guarding import Guarding
from holdfast.stream.logs import cut_lengths, first_whole, keep_aside
from holdfast.stream.near_future.scouting import Scouting
from holdfast.stream.observer import Observer
from holdfast.stream.position import Position
from holdfast.train.checkpoint import Checkpoint, open_checkpoint


class GoesBack(ABC):
    """What a run needs of itself to go back, and how it then does."""

    config: RunConfig
    directory: RunDirectory
    world: Processes
    observer: Observer
    tasks: list[Task]
    steps: list[int]
    guarding: Guarding
    scouting: Scouting
    _unsaved: Position | None
    _taken_before: int

    @abstractmethod
    def _restored(self, checkpoint: Checkpoint) -> Position: ...
    @abstractmethod
    def _load_scouting(self, checkpoint: Checkpoint, *, all_of_it: bool = True) -> None: ...
    @abstractmethod
    def _number(self, position: Position) -> int: ...
    @abstractmethod
    def _save(self, position: Position, *, is_due: bool = True, went_back_to: Checkpoint | None = None) -> None: ...
    @abstractmethod
    def _forget_undone(self, went_back_to: int, newest: int) -> None: ...
    @abstractmethod
    def _probe(self, position: Position, steps: int) -> Position: ...
    @abstractmethod
    def _demonstrations(self, stage: int) -> list[list[int]]: ...

    def _rolled_back(self, position: Position, decisions: list[Decision], actions: set[Action]) -> Position:
        guarding, stage = self.guarding, position.stage
        if guarding.remedies.roll_backs >= self.config.guard.max_roll_backs and "stop" not in actions:
            actions = actions | {"end_stage"}
        checkpoint, faults = first_whole(self.directory, guarding.ways_back())
        if checkpoint is None:
            did = [f"there is no whole checkpoint to go back to ({'; '.join(faults)})"]
            did += guarding.apply(actions | {"end_stage"}, self._demonstrations(stage), rolled_back=False)
            guarding.write(decisions, did, self.observer)
            return position
        undone = position.step
        position = self._restored(checkpoint)
        undone -= position.step
        did = [f"back to step {position.step} of stage {stage}", *(f"passed over: {fault}" for fault in faults)]
        did += guarding.apply(actions, self._demonstrations(stage), rolled_back=True)
        if position.batch is not None and position.trainer is not None:
            # In the middle of a rollout batch: its rows, and what the teacher said of them, are to change as well.
            guarding.mask(position.batch.rows)
            if "refresh_teacher" in actions:
                position.trainer.forget()
        guarding.take_answers(checkpoint.position["guard"])
        self._load_scouting(checkpoint, all_of_it=False)
        guarding.went_back(undone, self._number(position), checkpoint.number)
        return self._go_on(position, checkpoint, undone, decisions, did)

    def _near_future(self, position: Position) -> Position:
        """Go back as the scout says, with answers of the model that is gone back from; the position to go on from."""
        stage, task, scouting = position.stage, self.tasks[position.stage - 1], self.scouting
        choice = scouting.choose(task, stage)
        decision = Decision(
            rule="near_future",
            stage=stage,
            step=position.step,
            global_step=self._taken_before + position.step,
            task=task.name,
            severity="note",
            actions=("warn",),
            saw={},
            message="the near future is asked for right answers",
        )
        if choice is None:
            scouting.go_on(position.step)
            self.guarding.write([decision], ["none to a prompt that failed; the run goes on"], self.observer)
            return position
        checkpoint = open_checkpoint(self.directory.checkpoint(scouting.places[choice.back_to]))
        iterations, undone = self.config.recipe.rollouts().num_iterations, position.step - choice.back_to
        batches = range(*(-(-step // iterations) for step in (choice.back_to, self.steps[stage - 1])))
        number = self._number(Position(stage, choice.back_to)) + undone + 1
        pool = scouting.gather(task, stage, choice, batches, f"{number:08d}", measured=choice.score is not None)
        position = self._restored(checkpoint)
        choice = scouting.measured(choice, pool)
        decision = replace(decision, actions=("roll_back",), saw=choice.saw())
        scouting.went_back(undone, position.step, number)
        self.guarding.follow_back(checkpoint.position.get("guard", {}), number, checkpoint.number)
        did = [f"back to step {position.step}, with guides for {len(pool.answers)} prompts"]
        return self._go_on(position, checkpoint, undone, [decision], did)

    def _go_on(
        self,
        position: Position,
        checkpoint: Checkpoint,
        undone: int,
        decisions: Sequence[Decision],
        did: Sequence[str],
    ) -> Position:
        """After a way back: bring logs and checkpoints to a position that was restored; the position to go on from.

        Args:
            checkpoint: that it was restored from.
            undone: optimizer steps.
        """
        lengths = checkpoint.position["logs"]
        index = self.world.main(lambda: len(list(self.directory.records("decisions.jsonl"))))
        self.world.main(lambda: keep_aside(self.directory, lengths, index))
        self.guarding.write(decisions, did, self.observer)
        self._save(position, went_back_to=checkpoint)
        self._forget_undone(checkpoint.number, self._number(position))
        self.world.main(lambda: self.directory.cut(cut_lengths(self.directory.lengths(), lengths)))
        self._unsaved = None
        self.guarding.watch()
        self.observer.rolled_back(undone)
        # A checkpoint is from before its step's probe.
        return self._probe(position, self.steps[position.stage - 1])
