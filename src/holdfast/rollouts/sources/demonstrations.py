"""Demonstrations as rows: the only rows of a recipe that does not sample, or an extra row of a sampled group."""

from collections.abc import Sequence

from holdfast.data.rows import Group, Row
from holdfast.data.seeds import derive_seed
from holdfast.rollouts.sources.source import BatchPrompts
from holdfast.rollouts.training_prompts import TrainingPrompt


def demonstration_row(prompt: TrainingPrompt, seed: int) -> Row:
    """A fresh row whose completion is the example's demonstration."""
    demonstration = prompt.demonstration
    assert demonstration is not None
    return Row(
        example=prompt.example,
        prompt_ids=demonstration.prompt_ids,
        completion_ids=demonstration.ids,
        completion=demonstration.text,
        seed=seed,
        tool_mask=demonstration.tool_mask,
    )


class Demonstrations:
    """Adds to each group the demonstration of its example.

    Args:
        seed: the run's seed.
        replayed: whether groups of replayed prompts get theirs too.
        share: share of the stage's drawn prompts that get theirs, and of the replayed ones, above 0 and up to 1. They
            are evenly spaced over the stage.
    """

    def __init__(self, seed: int, *, replayed: bool, share: float = 1.0) -> None:
        self._seed, self._replayed, self._share = seed, replayed, share

    def add_rows(self, prompts: BatchPrompts, groups: Sequence[Group]) -> None:
        chosen = prompts.all if self._replayed else prompts.own
        own = len(prompts.own)
        for place, (group, (_, prompt)) in enumerate(zip(groups, chosen, strict=False)):
            is_own = place < own
            if self._is_due(prompts.batch * own + place if is_own else prompts.first_replayed + place - own):
                seed = derive_seed(self._seed, "demonstration", prompts.stage, prompts.batch, place)
                group.rows.append(demonstration_row(prompt, seed))

    def _is_due(self, position: int) -> bool:
        """Whether the prompt at a position of the stage is one of the share.

        A prompt is due when the rounded-down product of share and position rises. So the share is evenly spaced, and at
        every moment the count is less than one prompt from the exact share.
        """
        return int((position + 1) * self._share) > int(position * self._share)
