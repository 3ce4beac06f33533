"""Budgets of training that are allowed but hardly ever meant. Importable without torch."""

from collections.abc import Mapping, Sequence

from holdfast.config.settings import TrainSettings


def budget_problems(train: TrainSettings, steps: Sequence[int], prompts: Mapping[str, int]) -> list[str]:
    """What is odd about a run's budget, one line each.

    Args:
        train: batches and warmup.
        steps: optimizer steps of each stage.
        prompts: training prompts of each stage's task, by its name.
    """
    problems = [
        f"{task}: train.prompts_per_step is {train.prompts_per_step}, but there are only {count} training prompts, so "
        "a step sees prompts more than once; lower it"
        for task, count in prompts.items()
        if count < train.prompts_per_step
    ]
    short = [number for number in steps if number < train.warmup_steps]
    if short:
        reached = max(short) / train.warmup_steps
        problems.append(
            f"train.warmup_steps is {train.warmup_steps}, but {len(short)} of {len(steps)} stages have fewer optimizer "
            f"steps, so the learning rate there reaches only {reached:.0%} of train.learning_rate; lower it"
        )
    return problems
