"""Replay of earlier prompts with new completions from the frozen base, or from the recipe's teacher.

The other kinds of replay need no source of their own. Replayed prompts are part of a batch's prompts
(`PromptPool.replayed`), so `Demonstrations` and `Samples` treat them like the stage's own.
"""

from collections.abc import Sequence

from holdfast.data.rows import Group
from holdfast.data.seeds import derive_seed
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.rollouts.row_sampler import RowSampler
from holdfast.rollouts.sources.source import BatchPrompts


class BaseReplay:
    """Adds to the group of each replayed prompt one completion that the base writes. It is not judged."""

    def __init__(self, sampler: RowSampler) -> None:
        self._sampler = sampler

    def add_rows(self, prompts: BatchPrompts, groups: Sequence[Group]) -> None:
        rows = self._sampler.unjudged(prompts.replayed, "base", "replay", prompts.stage, prompts.batch)
        for group, row in zip(groups[len(prompts.own) :], rows, strict=True):
            group.rows.append(row)


class TeacherReplay:
    """Adds to the group of each replayed prompt some completions that the teacher writes, judged by the prompt's task.

    The teacher sees the student's prompt. If it is frozen at the stage's start, these are on-policy samples of the
    checkpoint that the stage began with (OPR, arXiv 2605.29495).
    """

    def __init__(self, sampler: RowSampler, spec: RolloutSpec, seed: int) -> None:
        self._sampler, self._spec, self._seed = sampler, spec, seed

    def add_rows(self, prompts: BatchPrompts, groups: Sequence[Group]) -> None:
        count = self._spec.replay_generations
        asked = [each for each in prompts.replayed for _ in range(count)]
        if not asked:
            return
        requests = [
            self._sampler.request(
                prompt.prompt_ids,
                derive_seed(
                    self._seed, "on-policy replay", prompts.stage, prompts.batch, place // count, place % count
                ),
            )
            for place, (_, prompt) in enumerate(asked)
        ]
        rows = self._sampler.rows(asked, requests, "teacher")
        for place, group in enumerate(groups[len(prompts.own) :]):
            group.rows += rows[place * count : (place + 1) * count]
