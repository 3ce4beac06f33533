"""What every row source is given and what it does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from holdfast.data.rows import Group
from holdfast.rollouts.prompt_pool import TaskPrompt


@dataclass(frozen=True)
class BatchPrompts:
    """The prompts of one rollout batch.

    Args:
        stage: the stage, from 1.
        batch: the rollout batch within the stage, from 0. With the run's seed, `stage` and `batch` name all random
            draws of the batch, so a batch does not depend on what was drawn before it.
        own: prompts of the stage's own task.
        replayed: prompts of earlier tasks, or of the replay file.
        first_replayed: how many prompts the stage's batches before have replayed.
    """

    stage: int
    batch: int
    own: Sequence[TaskPrompt]
    replayed: Sequence[TaskPrompt]
    first_replayed: int = 0

    @property
    def all(self) -> list[TaskPrompt]:
        """The stage's own prompts, then the replayed ones. This is the order of the batch's groups."""
        return [*self.own, *self.replayed]


class RowSource(Protocol):
    """Adds rows to the groups of a rollout batch."""

    def add_rows(self, prompts: BatchPrompts, groups: Sequence[Group]) -> None:
        """Append this source's rows to the groups' rows.

        Args:
            prompts: the prompts of the batch.
            groups: one group for each of `prompts.all`, in that order, with the rows of the sources asked before.
        """
