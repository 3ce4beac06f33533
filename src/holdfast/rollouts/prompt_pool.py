"""The training prompts of a run's tasks, and which of them each batch gets.

Every choice follows from the run's seed and from names such as the task and the epoch. So a resumed run draws the same
prompts, and two recipes with one seed are trained on the same prompts.
"""

from collections.abc import Sequence
from fractions import Fraction

from holdfast.data.seeds import numpy_rng
from holdfast.data.task import Task
from holdfast.rollouts.training_prompts import TrainingPrompt

TaskPrompt = tuple[Task, TrainingPrompt]
"""A prompt with the task that judges its completions."""


class PromptPool:
    """The prompts of all tasks.

    Args:
        seed: the run's seed.
        per_batch: prompts of the stage's own task in a rollout batch.

    Attributes:
        of: prompts by task name, in the order of the stages.
        tasks: the tasks by name.
        file_prompts: prompts of the file that a recipe names. If there are any, they are used instead of those of
            earlier tasks.
    """

    def __init__(self, seed: int, per_batch: int) -> None:
        self.seed, self.per_batch = seed, per_batch
        self.of: dict[str, list[TrainingPrompt]] = {}
        self.tasks: dict[str, Task] = {}
        self.file_prompts: list[TaskPrompt] = []

    def add(self, task: Task, prompts: list[TrainingPrompt]) -> None:
        """Add the next task of the stream."""
        self.of[task.name], self.tasks[task.name] = prompts, task

    def kept_ids(self, task: str) -> frozenset[str]:
        """Ids of a task's training examples that fit."""
        return frozenset(prompt.example.id for prompt in self.of[task])

    def longest(self, task: str) -> int:
        """Tokens in the longest training prompt of a task."""
        return max(len(prompt.prompt_ids) for prompt in self.of[task])

    def draw(self, task: str, batch: int) -> list[TrainingPrompt]:
        """The prompts of a batch (from 0). Each epoch is one seeded shuffle of all prompts, so each comes once."""
        pool = self.of[task]
        first = batch * self.per_batch
        drawn: list[TrainingPrompt] = []
        shuffles: dict[int, list[int]] = {}  # a batch may span two epochs, or several if the task is small
        for position in range(first, first + self.per_batch):
            epoch, place = divmod(position, len(pool))
            if epoch not in shuffles:
                shuffles[epoch] = numpy_rng(self.seed, "prompts", task, epoch).permutation(len(pool)).tolist()
            drawn.append(pool[shuffles[epoch][place]])
        return drawn

    def upcoming(self, task: str, first: int, last: int) -> list[TrainingPrompt]:
        """The different prompts of the rollout batches from `first` up to, but not including, `last`."""
        drawn = (prompt for batch in range(first, last) for prompt in self.draw(task, batch))
        return list({prompt.example.id: prompt for prompt in drawn}.values())

    def some(self, task: str, count: int, name: str) -> list[TaskPrompt]:
        """`count` prompts of a task. The same name always gives the same prompts."""
        order = numpy_rng(self.seed, name, task).permutation(len(self.of[task]))
        return [(self.tasks[task], self.of[task][index]) for index in order[:count]]

    def replayed(self, stage: int, batch: int, ratio: float, buffer_size: int | None) -> list[TaskPrompt]:
        """The prompts that a batch replays: of earlier tasks, or of the file.

        Args:
            stage: from 1.
            batch: from 0.
            ratio: see `num_replayed`.
            buffer_size: how many prompts of each earlier task may be replayed; None for all.
        """
        earlier = list(self.of)[: max(0, stage - 1)]
        pool = self.file_prompts or [each for name in earlier for each in self.buffer(name, buffer_size)]
        drawn: list[TaskPrompt] = []
        orders: dict[int, list[int]] = {}  # by epoch, as in `draw`
        for position in range(self.num_replayed(batch, ratio), self.num_replayed(batch + 1, ratio)) if pool else ():
            epoch, place = divmod(position, len(pool))
            if epoch not in orders:
                orders[epoch] = numpy_rng(self.seed, "replay", stage, epoch).permutation(len(pool)).tolist()
            drawn.append(pool[orders[epoch][place]])
        return drawn

    def num_replayed(self, batches: int, ratio: float) -> int:
        """How many prompts the first `batches` batches of a stage replay.

        Args:
            ratio: replayed prompts per prompt of the stage. It may be a fraction of a prompt per batch; over all
                batches the count is exact, rounded down.
        """
        # In decimal, as the configuration has it: in floating point, 0.29 of 100 prompts would be 28.
        return int(batches * self.per_batch * Fraction(str(ratio)))

    def buffer(self, task: str, size: int | None) -> list[TaskPrompt]:
        """The prompts of a task that later stages may replay; all of them if `size` is None."""
        return self.some(task, len(self.of[task]) if size is None else size, "replay buffer")

    def before(self, stage: int, count: int) -> Sequence[TaskPrompt]:
        """`count` prompts from before a stage (from 1).

        They are the file's prompts if there are any, else those of the task before. The first stage has no task before
        it and uses its own.
        """
        pool = self.file_prompts
        if not pool:
            name = list(self.of)[max(0, stage - 2)]
            pool = [(self.tasks[name], prompt) for prompt in self.of[name]]
        order = numpy_rng(self.seed, "before", stage).permutation(len(pool))
        return [pool[index] for index in order[:count]]
