"""Revisions: the student revises its own answers, after a cue that tells it whether the answer is right.

The method is SD-Zero's; its recipe gives the cues.
"""

from collections.abc import Sequence

from holdfast.data.rows import Group
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Task
from holdfast.recipes.parts.rollouts import Revision
from holdfast.rollouts.prompt_encoder import PromptEncoder
from holdfast.rollouts.row_sampler import RowSampler
from holdfast.rollouts.sources.source import BatchPrompts
from holdfast.rollouts.training_prompts import TrainingPrompt
from holdfast.rollouts.warn_once import WarnOnce


class Revisions:
    """Adds to each group one revision of each of its rows.

    A revision's prompt is the row's prompt, the row's answer and the cue. An answer that makes this prompt too long
    is not revised.

    Args:
        sampler: samples and judges.
        encoder: makes the prompts.
        revision: the cues.
        warn: called for an answer that is too long.
        seed: the run's seed.
    """

    def __init__(
        self, sampler: RowSampler, encoder: PromptEncoder, revision: Revision, warn: WarnOnce, seed: int
    ) -> None:
        self._sampler, self._encoder, self._revision, self._warn, self._seed = sampler, encoder, revision, warn, seed

    def add_rows(self, prompts: BatchPrompts, groups: Sequence[Group]) -> None:
        to_revise: list[tuple[Group, Task, TrainingPrompt]] = []
        for (task, _), group in zip(prompts.all, groups, strict=True):
            for row in group.rows:
                ids = self._encoder.revision_prompt(row, self._revision)
                if len(ids) <= self._encoder.max_reprompt_length:
                    to_revise.append((group, task, TrainingPrompt(row.example, ids)))
                else:
                    self._warn(
                        f"{row.example.id}: the prompt for a revision has {len(ids)} tokens, more than "
                        f"max_reprompt_length={self._encoder.max_reprompt_length}",
                        "a revision",
                    )
        requests = [
            self._sampler.request(
                prompt.prompt_ids, derive_seed(self._seed, "revision", prompts.stage, prompts.batch, place)
            )
            for place, (_, _, prompt) in enumerate(to_revise)
        ]
        rows = self._sampler.rows([(task, prompt) for _, task, prompt in to_revise], requests)
        for (group, _, _), row in zip(to_revise, rows, strict=True):
            row.revised = True
            group.rows.append(row)
