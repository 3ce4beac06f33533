"""Replay of earlier prompts with new completions from the frozen base.

The other kinds of replay need no source of their own. Replayed prompts are part of a batch's prompts
(`PromptPool.replayed`), so `Demonstrations` and `Samples` treat them like the stage's own.
"""

from collections.abc import Sequence

from holdfast.data.rows import Group
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
