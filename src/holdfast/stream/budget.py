"""Budgets of training that are allowed but hardly ever meant. Importable without torch."""

from collections.abc import Mapping, Sequence

from holdfast.config.settings import TrainSettings
from holdfast.recipes.base.recipe import Recipe


def batch_problems(train: TrainSettings, prompts: Mapping[str, int]) -> list[str]:
    """Tasks with fewer prompts than a step has, one line each.

    Args:
        train: says how many prompts a step has.
        prompts: training prompts of each task, by its name.
    """
    return [
        f"{task}: train.prompts_per_step is {train.prompts_per_step}, but there {_only(count)}, so "
        "a step sees prompts more than once; lower it"
        for task, count in prompts.items()
        if count < train.prompts_per_step
    ]


def replay_problems(recipe: Recipe, tasks: int) -> list[str]:
    """Whether a replay that was asked for has nothing to replay, in one line.

    Args:
        tasks: of the stream.
    """
    asked = recipe.replay_ratio not in (0, type(recipe).model_fields["replay_ratio"].default)
    if tasks > 1 or not asked or recipe.rollout_spec().replay_prompts is not None:
        return []
    return [
        f"the recipe's replay_ratio is {recipe.replay_ratio:g}, but there is only 1 task, so nothing is replayed; "
        "leave it out"
    ]


def _only(count: int) -> str:
    return "is only 1 training prompt" if count == 1 else f"are only {count} training prompts"


def warmup_problems(train: TrainSettings, steps: Sequence[int]) -> list[str]:
    """Whether stages end before their warmup does, in one line.

    Args:
        train: says how long the warmup is.
        steps: optimizer steps of each stage.
    """
    short = [number for number in steps if number < train.warmup_steps]
    if not short:
        return []
    return [
        f"train.warmup_steps is {train.warmup_steps}, but {len(short)} of {len(steps)} stages have fewer optimizer "
        f"steps, so the learning rate there reaches only {max(short) / train.warmup_steps:.0%} of "
        "train.learning_rate; lower it"
    ]
