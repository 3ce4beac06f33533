"""Quality over variance of answers from a run's near future, for several distances, on the same prompts.

The prompts are those on which all samples of the base fail. Quality is the share of them that the later model answers
correctly. Variance is exp of the mean absolute difference of the two models' log-probabilities of these answers (arXiv
2604.20733; the paper does not give the form of the variance, so this is a reconstruction, as in the recipe `npo`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from holdfast.config.settings import ModelSettings, TrainSettings
from holdfast.data.rows import Group
from holdfast.data.task import Task
from holdfast.model.load import load_policy
from holdfast.model.logprobs import completion_logprobs
from holdfast.model.policy import Policy
from holdfast.recipes import GRPO
from holdfast.rollouts.collect import Collector
from holdfast.sampling.sampler import Sampler

PROMPTS = 96
"""Training prompts given to the base. It fails on about two thirds of them."""

ANSWERS = 2
"""Samples that each later model draws for each prompt on which the base fails."""


AHEAD = (3, 15, 60)
"""Numbers of GRPO's optimizer steps ahead."""


def quality_ahead(world: int) -> Sequence[float | None]:
    """Quality over variance at the middle distance minus that at the near one, and minus that at the far one."""
    from holdfast.api import run
    from holdfast.lab.tasks import lab_task

    with TemporaryDirectory() as folder:
        models = {}
        for steps in AHEAD:  # the first steps of one run: its draws follow from the seed, its rate is constant
            config = {**RUN, "seed": world, "train": {**RUN["train"], "steps": steps}}
            run(config, Path(folder) / str(steps))
            models[steps] = Path(folder) / str(steps) / "models" / "stage-1"
        scores = quality_over_variance(lab_task("tools", world), models, world)
    near, middle, far = (scores[steps] for steps in AHEAD)
    return [None if middle is None or other is None else middle - other for other in (near, far)]


RUN: Mapping[str, Any] = {
    "model": {"path": "lab"},
    "tasks": ["lab:tools"],
    "suites": [],
    "recipe": "grpo",
    "train": {
        "prompts_per_step": 12,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "warmup_steps": 3,
        "max_prompt_length": 200,
        "max_completion_length": 56,
    },
    "eval": {"max_items": 8, "kl_items": 0, "response_items": 0, "drift_weights": 0, "samples": 0},
}


def quality_over_variance(task: Task, ahead: Mapping[int, Path], seed: int) -> dict[int, float | None]:
    """Quality over variance by number of steps ahead of the lab's base; None if the base fails on no prompt.

    Args:
        ahead: for each number of steps, the folder of the model's weights.
        seed: for all samples.
    """
    base = load_policy(ModelSettings())
    sampled = _answers(base, task, GRPO(), PROMPTS, seed)
    failed = [group.example for group in sampled if not any(row.reward >= 1 for row in group.rows)]
    if not failed:
        return dict.fromkeys(ahead)
    of_failed = replace(task, train=failed)
    scores: dict[int, float | None] = {}
    for steps, folder in ahead.items():
        policy = load_policy(ModelSettings(path=str(folder)))
        groups = _answers(policy, of_failed, GRPO(num_generations=ANSWERS), len(failed), seed)
        right = [row for group in groups for row in group.rows if row.reward >= 1]
        quality = sum(any(row.reward >= 1 for row in group.rows) for group in groups) / len(groups)
        distances: list[float] = []
        for row, own in zip(right, completion_logprobs(base, right), strict=True):
            assert row.sampled_logprobs is not None
            distances += [abs(a - row.sampled_logprobs[t]) for t, a in zip(row.loss_positions(), own, strict=True)]
        scores[steps] = quality / math.exp(sum(distances) / len(distances)) if distances else 0.0
    return scores


def _answers(policy: Policy, task: Task, recipe: GRPO, prompts: int, seed: int) -> Sequence[Group]:
    """One group of samples for each of `prompts` training prompts of the task, each prompt once."""
    settings = TrainSettings(prompts_per_step=prompts, max_prompt_length=200, max_completion_length=56)
    collector = Collector(policy, Sampler(policy), recipe, settings, seed)
    collector.prepare(task)
    groups, _ = collector.collect(task, 1, 0)
    return groups
