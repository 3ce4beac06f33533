"""Samples: completions that the student, or the frozen base, writes for the prompts of a batch."""

from collections.abc import Sequence
from dataclasses import replace

from holdfast.data.rows import Group
from holdfast.data.seeds import derive_seed
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.rollouts.prompt_pool import TaskPrompt
from holdfast.rollouts.row_sampler import RowSampler
from holdfast.rollouts.sources.source import BatchPrompts


class Samples:
    """Adds to each group `spec.num_generations` samples of its prompt.

    Args:
        sampler: samples and judges.
        spec: how many samples, and whether they continue the student's own prompt or the teacher's.
        seed: the run's seed.
    """

    def __init__(self, sampler: RowSampler, spec: RolloutSpec, seed: int) -> None:
        self._sampler, self._spec, self._seed = sampler, spec, seed

    def add_rows(self, prompts: BatchPrompts, groups: Sequence[Group]) -> None:
        self.fill(groups, prompts.all, "rollout", prompts.stage, prompts.batch)

    def fill(self, groups: Sequence[Group], prompts: Sequence[TaskPrompt], *name: int | str) -> None:
        """Add samples to groups, one group for each prompt.

        Args:
            groups: get the rows.
            prompts: in the order of the groups; each is judged by its own task.
            name: of the random draws, unless the samples are those of the example.
        """
        count = self._spec.num_generations
        requests = [
            self._sampler.request(
                prompt.sampling_prompt_ids or prompt.prompt_ids,
                derive_seed(
                    self._seed,
                    *(("once", task.name, prompt.example.id) if self._spec.once else (*name, place)),
                    generation,
                ),
            )
            for place, (task, prompt) in enumerate(prompts)
            for generation in range(count)
        ]
        # One call for all prompts, own and replayed: the engine fills its memory best when it has all requests.
        rows = self._sampler.rows([each for each in prompts for _ in range(count)], requests)
        for place, group in enumerate(groups):
            group.rows += rows[place * count : (place + 1) * count]
            if self._spec.prompt == "teacher":
                _mark_as_from_teacher_prompt(group)


def _mark_as_from_teacher_prompt(group: Group) -> None:
    """Move the log-probabilities of rows that were sampled with the teacher's prompt.

    The rows keep the student's prompt, and the student did not write them with it. So they count as
    `source_logprobs`, and what they cost is counted in the group.
    """
    group.extra_completions = len(group.rows)
    group.extra_tokens = sum(len(row.own_ids()) for row in group.rows)
    group.rows = [replace(r, source_logprobs=r.sampled_logprobs, sampled_logprobs=None) for r in group.rows]
