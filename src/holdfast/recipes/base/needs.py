"""What a recipe needs and a task does not provide."""

from collections.abc import Sequence

from holdfast.data.task import Task
from holdfast.errors import ConfigError
from holdfast.recipes.base.recipe import Recipe

ONE_TURN = "answers_of_one_turn"
"""What some recipes need and a task with an environment does not provide."""

STRANGER = "stranger"
"""Another example for each. A task with one prompt does not provide it."""

FIXES = {
    "reward": "set `verifier: module:function`, or give every record an `answer` (if its column has another name: "
    "`columns: {answer: NAME}`), or set an `environment_factory`",
    "demonstration": "give every training record a `completion`",
    "privileged_context": "give every training record a `privileged_context`, a `completion` or a `solution`",
    "actions": "give every training record `actions`: a list of the actions of an expert who succeeded",
    "translation": "give every training record a `translation`: its messages in a language that the model is safer in",
    "plan": "give every training record a `plan`: how to answer, without the answer",
    STRANGER: "give it training examples with different prompts, or set another privilege",
    "solution": "give every training record a `solution`: a list of steps, or text with one step per line",
}
"""How to provide each need."""


def lacking(recipe: Recipe, task: Task) -> list[str]:
    """What the recipe needs, with its settings, and the task does not provide; empty if the recipe can run."""
    turns = [ONE_TURN] if recipe.single_turn and task.episodes is not None else []
    is_alone = all(example.messages == task.train[0].messages for example in task.train)
    strangers = [STRANGER] if recipe.shows_strangers() and is_alone else []
    return turns + strangers + sorted(recipe.required() - task.provides())


def require(recipe: Recipe, tasks: Sequence[Task]) -> None:
    """Refuse tasks that lack what the recipe needs.

    Raises:
        ConfigError: the recipe, the task and what is missing.
    """
    for task in tasks:
        for need in lacking(recipe, task):
            raise ConfigError(_problem(recipe, task, need), fix=FIXES.get(need, "choose another recipe"))


def _problem(recipe: Recipe, task: Task, need: str) -> str:
    if need == ONE_TURN:
        return f"recipe {recipe.name!r} works on answers of one turn, and task {task.name!r} has an environment"
    if not task.train:
        return f"task {task.name!r} has no training examples"
    if need == "reward":
        return f"recipe {recipe.name!r} needs a reward, and task {task.name!r} has no verifier"
    if need == STRANGER:
        return f"recipe {recipe.name!r} shows the teacher another example, and task {task.name!r} has only one prompt"
    wanted = need.replace("_", " ") if need.endswith("s") else f"a {need.replace('_', ' ')}"
    without = [example.id for example in task.train if need not in example.privileges()]
    return (
        f"recipe {recipe.name!r} needs {wanted}, and {len(without)} of {len(task.train)} training "
        f"examples of task {task.name!r} have none, the first {without[0]!r}"
    )
