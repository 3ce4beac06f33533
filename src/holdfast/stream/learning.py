"""The probe that a controller learns from: the loss on fixed prompts, between optimizer steps."""

from typing import Any

from holdfast.data.task import Task
from holdfast.recipes.base.recipe import Recipe
from holdfast.rollouts.collect import Collector
from holdfast.stream.position import Position


def learning_probe(recipe: Recipe, collector: Collector, task: Task, position: Position) -> dict[str, Any]:
    """What there is to log of a recipe's probe, where it is due before the step that a position is at; else nothing.

    Returns:
        "probe_loss", and the "completions" and "generated_tokens" that it took, which count in the run's budget.
    """
    probe = recipe.probe()
    if probe is None or position.step % probe.every:
        return {}
    assert position.trainer is not None
    assert position.controls is not None
    rows = collector.probe(task, position.stage, probe.prompts, position.controls.recipe(probe.settings))
    loss = position.trainer.measure(rows, where=f"probe of stage {position.stage} ({task.name})")["loss"]
    tokens = sum(len(row.own_ids()) for row in rows)
    return {"probe_loss": loss, "completions": len(rows), "generated_tokens": tokens}
