"""The training prompts of a run's tasks, and which of them are drawn when: by the run's seed and names alone."""

from collections.abc import Sequence

from holdfast.data.seeds import numpy_rng
from holdfast.data.task import Task
from holdfast.rollouts.training_prompts import TrainingPrompt

Asked = tuple[Task, TrainingPrompt]
"""A prompt with the task that judges what is said to it."""


class PromptPool:
    """Prompts by task, in the order of stages, and those of a file that stand in for earlier tasks'.

    Args:
        seed: of the run.
        per_batch: prompts of a rollout batch.
    """

    def __init__(self, seed: int, per_batch: int) -> None:
        self.seed, self.per_batch = seed, per_batch
        self.of: dict[str, list[TrainingPrompt]] = {}
        self.tasks: dict[str, Task] = {}
        self.listed: list[Asked] = []
        """Of the file that a recipe names."""

    def add(self, task: Task, prompts: list[TrainingPrompt]) -> None:
        self.of[task.name], self.tasks[task.name] = prompts, task

    def kept_ids(self, task: str) -> frozenset[str]:
        """Training examples of a task that fit."""
        return frozenset(prompt.example.id for prompt in self.of[task])

    def longest(self, task: str) -> int:
        """Tokens in the longest training prompt of a task."""
        return max(len(prompt.prompt_ids) for prompt in self.of[task])

    def draw(self, task: str, batch: int) -> list[TrainingPrompt]:
        """The prompts of a batch: the task's examples in one seeded shuffle after another, each once per epoch."""
        pool = self.of[task]
        first = batch * self.per_batch
        drawn: list[TrainingPrompt] = []
        shuffles: dict[int, list[int]] = {}
        for position in range(first, first + self.per_batch):
            epoch, place = divmod(position, len(pool))
            if epoch not in shuffles:
                shuffles[epoch] = numpy_rng(self.seed, "prompts", task, epoch).permutation(len(pool)).tolist()
            drawn.append(pool[shuffles[epoch][place]])
        return drawn

    def upcoming(self, task: str, first: int, last: int) -> list[TrainingPrompt]:
        """The prompts of rollout batches `first` to before `last`, each once."""
        drawn = (prompt for batch in range(first, last) for prompt in self.draw(task, batch))
        return list({prompt.example.id: prompt for prompt in drawn}.values())

    def some(self, task: str, count: int, name: str) -> list[Asked]:
        """So many prompts of a task, the same whenever they are asked for under a name."""
        order = numpy_rng(self.seed, name, task).permutation(len(self.of[task]))
        return [(self.tasks[task], self.of[task][index]) for index in order[:count]]

    def replayed(self, stage: int, batch: int, ratio: float, buffer_size: int | None) -> list[Asked]:
        """Prompts of earlier tasks' buffers, or the listed ones in their place, for a batch of a stage (from 1).

        Over batches they are `ratio` of the stage's own prompts, to the prompt.
        """
        earlier = list(self.of)[: max(0, stage - 1)]
        pool = self.listed or [each for name in earlier for each in self.buffer(name, buffer_size)]
        rate = ratio * self.per_batch
        drawn: list[Asked] = []
        for position in range(int(batch * rate), int((batch + 1) * rate)) if pool else ():
            epoch, place = divmod(position, len(pool))
            order = numpy_rng(self.seed, "replay", stage, epoch).permutation(len(pool))
            drawn.append(pool[order[place]])
        return drawn

    def buffer(self, task: str, size: int | None) -> list[Asked]:
        """What is kept of a task; None for all."""
        return self.some(task, len(self.of[task]) if size is None else size, "replay buffer")

    def before(self, stage: int, count: int) -> Sequence[Asked]:
        """So many prompts from before a stage (from 1): listed ones, else of the task before, at first its own."""
        pool = self.listed
        if not pool:
            name = list(self.of)[max(0, stage - 2)]
            pool = [(self.tasks[name], prompt) for prompt in self.of[name]]
        order = numpy_rng(self.seed, "before", stage).permutation(len(pool))
        return [pool[index] for index in order[:count]]
