"""Needs."""

from collections.abc import Sequence

from holdfast.data.task import Task
from holdfast.errors import ConfigError
from holdfast.recipes.base.recipe import Recipe

FIXES = {
    "reward": "name one with `verifier: module:function`, or give every record an `answer`, or name an "
    "`environment_factory`",
    "demonstration": "give every training record a `completion`",
    "privileged_context": "give every training record a `privileged_context`, a `completion` or a `solution`",
    "actions": "give every training record `actions`: a list of what somebody who succeeded did",
    "translation": "give every training record a `translation`: its messages in a language that the model is safer in",
    "plan": "give every training record a `plan`: how to answer, without the answer",
    "solution": "give every training record a `solution`: a list of steps, or text with a step a line",
}

ONE_TURN = "answers_of_one_turn"
"""What a task with an environment lacks for some recipes; named as privileges are."""


def lacking(recipe: Recipe, task: Task) -> list[str]:
    """What a recipe needs, as it is set, and a task does not bring; empty where the recipe can run on it."""
    turns = [ONE_TURN] if recipe.takes_one_turn and task.episodes is not None else []
    return turns + sorted(recipe.required() - task.provides())


def require(recipe: Recipe, tasks: Sequence[Task]) -> None:
    """Refuse a task that lacks what a recipe needs.

    Raises:
        ConfigError: names the recipe, the task and what is missing.
    """
    for task in tasks:
        for need in lacking(recipe, task):
            without = [e.id for e in task.train if need not in e.privileges()]
            if need == ONE_TURN:
                what = f"recipe {recipe.name!r} works on answers of one turn, and task {task.name!r} has an environment"
            elif not task.train:
                what = f"task {task.name!r} has no training examples"
            elif need == "reward":
                what = f"recipe {recipe.name!r} needs a reward, and task {task.name!r} has no verifier"
            else:
                what = (
                    f"recipe {recipe.name!r} needs a {need.replace('_', ' ')}, and {len(without)} of "
                    f"{len(task.train)} training examples of task {task.name!r} have none, the first {without[0]!r}"
                )
            raise ConfigError(what, fix=FIXES.get(need, "choose another recipe"))
