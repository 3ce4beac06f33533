"""How good a guide a run's near future is, by its distance: quality over variance, on the same prompts at each.

The prompts are those that the base fails with all of its samples. Quality is the share of them that the model so many
steps ahead answers right, variance exp of how far the two models' log-probabilities of these answers are apart
(arXiv 2604.20733; the form of the latter is a reconstruction, as in NPO's scout).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

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
"""Training prompts that the base is asked, of which it fails some two thirds."""

ANSWERS = 2
"""Of each model ahead to each prompt that the base fails."""


def quality_over_variance(task: Task, ahead: Mapping[int, Path], seed: int) -> dict[int, float | None]:
    """Of the models so many steps ahead of the lab's base; None where the base fails nothing.

    Args:
        ahead: folders of their weights.
        seed: of all samples.
    """
    base = load_policy(ModelSettings())
    asked = _answers(base, task, GRPO(), PROMPTS, seed)
    failed = [group.example for group in asked if not any(row.reward >= 1 for row in group.rows)]
    if not failed:
        return dict.fromkeys(ahead)
    of_failed = replace(task, train=failed)
    found: dict[int, float | None] = {}
    for steps, folder in ahead.items():
        policy = load_policy(ModelSettings(path=str(folder)))
        groups = _answers(policy, of_failed, GRPO(num_generations=ANSWERS), len(failed), seed)
        right = [row for group in groups for row in group.rows if row.reward >= 1]
        quality = sum(any(row.reward >= 1 for row in group.rows) for group in groups) / len(groups)
        distances: list[float] = []
        for row, own in zip(right, completion_logprobs(base, right), strict=True):
            assert row.sampled_logprobs is not None
            distances += [abs(a - row.sampled_logprobs[t]) for t, a in zip(row.loss_positions(), own, strict=True)]
        found[steps] = quality / math.exp(sum(distances) / len(distances)) if distances else 0.0
    return found


def _answers(policy: Policy, task: Task, recipe: GRPO, prompts: int, seed: int) -> Sequence[Group]:
    """A group of answers to each of so many of the task's training prompts, each prompt once."""
    settings = TrainSettings(prompts_per_step=prompts, max_prompt_length=160, max_completion_length=48)
    collector = Collector(policy, Sampler(policy), recipe, settings, seed)
    collector.prepare(task)
    groups, _ = collector.collect(task, 1, 0)
    return groups
