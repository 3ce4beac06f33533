"""Revisions: the student revises its own answers, after a cue that tells it whether the answer is right.

The method is SD-Zero's; its recipe gives the cues.
"""

from collections.abc import Sequence
from dataclasses import replace

from holdfast.data.rows import Group, Row
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Task
from holdfast.recipes.parts.rollouts import Revision
from holdfast.rollouts.prompt_encoder import PromptEncoder
from holdfast.rollouts.row_sampler import RowSampler
from holdfast.rollouts.sources.source import BatchPrompts
from holdfast.rollouts.training_prompts import TrainingPrompt
from holdfast.rollouts.warn_once import WarnOnce


class Revisions:
    """Adds to each group one revision of each of its rows, and whole trajectories if they are asked for.

    A revision's prompt is the row's prompt, the row's answer and the cue. An answer that makes this prompt too long
    is not revised. A trajectory has the same tokens as the revision, and its completion begins with the answer.

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
        to_revise: list[tuple[Group, Row, Task, TrainingPrompt]] = []
        for (task, _), group in zip(prompts.all, groups, strict=True):
            for row in group.rows:
                if self._revision.is_right(row) and not self._revision.of_right_answers:
                    continue
                ids = self._encoder.revision_prompt(row, self._revision)
                if len(ids) <= self._encoder.max_reprompt_length:
                    to_revise.append((group, row, task, TrainingPrompt(row.example, ids)))
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
            for place, (_, _, _, prompt) in enumerate(to_revise)
        ]
        revisions = self._sampler.rows([(task, prompt) for _, _, task, prompt in to_revise], requests)
        for (group, answer, _, _), revision in zip(to_revise, revisions, strict=True):
            revision.revised = True
            group.rows.append(revision)
            corrects = self._revision.is_right(revision) and not self._revision.is_right(answer)
            if self._revision.with_trajectories and corrects:
                group.rows.append(_trajectory(answer, revision))


def _trajectory(answer: Row, revision: Row) -> Row:
    """The answer, the cue and the revision as one completion of the answer's prompt.

    It has no `sampled_logprobs`, because nobody sampled the cue.
    """
    before = revision.prompt_ids[len(answer.prompt_ids) :]
    return replace(
        revision,
        prompt_ids=answer.prompt_ids,
        completion_ids=[*before, *revision.completion_ids],
        sampled_logprobs=None,
    )
