"""The first rollout batches of a task, made as training makes them, with the model as it is."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.data.rows import Group, Row
from holdfast.data.task import Task
from holdfast.recipes.base.recipe import Recipe
from holdfast.stream.controls import Controls
from holdfast.stream.run import Run


@dataclass(frozen=True)
class Trial:
    """Rollout batches of a task that nothing was trained on.

    Attributes:
        recipe: as its controllers set it for the first step.
        groups: of the task's own prompts, each prompt once.
        batch: all rows of the first batch.
        seconds: for each batch, how long it took to sample, judge and annotate.
    """

    task: Task
    recipe: Recipe
    groups: Sequence[Group]
    batch: Sequence[Row]
    seconds: Sequence[float]

    def samples(self) -> list[list[Row]]:
        """For each prompt, the judged samples of the model itself: no demonstrations, revisions or hinted samples."""
        spec = self.recipe.rollout_spec()
        by_prompt = [
            [
                row
                for row in group.rows
                if row.verdict is not None and not row.revised and (row.is_sampled or spec.prompt == "teacher")
            ]
            for group in self.groups
        ]
        return [rows for rows in by_prompt if rows]


def try_batches(run: Run, number: int, items: int) -> Trial:
    """Make rollout batches of a stage's task until enough prompts have come.

    The first stage's batches are those of the run, sample for sample. Later stages will start from a model that is not
    known yet; their batches are made as if theirs was the first stage, so nothing is replayed.

    Args:
        run: prepared.
        number: the stage, from 1.
        items: prompts.
    """
    task, collector = run.tasks[number - 1], run.collector
    controls = Controls(run.config.recipe, run.steps[number - 1], run.config.seed, number)
    recipe = controls.recipe(controls.settings(0))
    # Batches go through the task epoch by epoch, so a prompt may come again: count distinct prompts.
    wanted = min(items, len(collector.pool.kept_ids(task.name)))
    groups: dict[str, Group] = {}
    batch: list[Row] = []
    seconds: list[float] = []
    while len(groups) < wanted:
        started = time.perf_counter()
        made, _ = collector.collect(task, 1, len(seconds), recipe)
        seconds.append(time.perf_counter() - started)
        batch = batch or [row for group in made for row in group.rows]
        for group in made[: run.config.train.prompts_per_step]:
            if len(groups) < wanted:
                groups.setdefault(group.example.id, group)
    return Trial(task, recipe, list(groups.values()), batch, seconds)
