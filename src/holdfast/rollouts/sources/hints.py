"""Hints for prompts that fail: samples with the first of somebody's actions in the prompt, as few as help.

The method is ActGuide-RL's (arXiv 2605.12004). A row that is sampled with a hint is trained on without it. It has the
student's own prompt, and as `source_logprobs` the log-probabilities with which it was sampled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from holdfast.data.rows import Group, Row
from holdfast.data.seeds import derive_seed
from holdfast.recipes.parts.rollouts import HintSpec
from holdfast.rollouts.prompt_encoder import PromptEncoder
from holdfast.rollouts.row_sampler import RowSampler
from holdfast.rollouts.sources.source import BatchPrompts


@dataclass(frozen=True, slots=True)
class HintedRequest:
    """Samples of one prompt with a hint.

    Args:
        place: the prompt's group in the batch.
        actions: how many actions the hint shows.
        count: how many samples.
        purpose: names the random draws: "probe" while a length is searched, "guided" for the rows to train on.
    """

    place: int
    actions: int
    count: int
    purpose: str


SampleWithHints = Callable[[Sequence[HintedRequest]], list[list[Row]]]
"""Samples all requests together. For each it returns its rows, which have the prompt without the hint."""


class HintedSamples:
    """Adds to the groups that fail as many hinted rows as they have rows.

    Args:
        sampler: samples and judges.
        encoder: makes the prompts with a hint.
        spec: when a prompt fails, and how the length of its hint is searched.
        seed: the run's seed.
    """

    def __init__(self, sampler: RowSampler, encoder: PromptEncoder, spec: HintSpec, seed: int) -> None:
        self._sampler, self._encoder, self._spec, self._seed = sampler, encoder, spec, seed

    def add_rows(self, prompts: BatchPrompts, groups: Sequence[Group]) -> None:
        add_hinted_rows(groups, self._spec, partial(self._sample, prompts))

    def _sample(self, prompts: BatchPrompts, requests: Sequence[HintedRequest]) -> list[list[Row]]:
        owners, expanded, asked = [], [], prompts.all
        for each in requests:
            task, prompt = asked[each.place]
            ids = self._encoder.hinted_prompt(prompt.example, each.actions, self._spec.template)
            name = ("hint", prompts.stage, prompts.batch, each.place, each.purpose, each.actions)
            owners += [(task, prompt)] * each.count
            expanded += [self._sampler.request(ids, derive_seed(self._seed, *name, i)) for i in range(each.count)]
        rows = iter(self._sampler.rows(owners, expanded))
        return [list(islice(rows, each.count)) for each in requests]


@dataclass(slots=True)
class _Search:
    """Bisection for the fewest actions that help one prompt.

    The answer is between `low` and `high`. `best` is the fewest actions that have helped so far, at first all.
    """

    place: int
    low: int
    high: int
    best: int

    @property
    def middle(self) -> int:
        return (self.low + self.high) // 2


def add_hinted_rows(groups: Sequence[Group], spec: HintSpec, sample: SampleWithHints) -> None:
    """Add rows to the groups that fail: as many as they have, sampled with the fewest actions that help.

    The number of actions is found by bisection. A number helps if at least one probe succeeds with it. If none helps,
    all actions are shown. The rows that failed stay in the group; the recipe decides which rows count.

    Args:
        groups: with the student's own samples; changed in place.
        spec: when a prompt fails, how many probes a number of actions gets, and how many numbers are tried.
        sample: samples for the searches of all groups together, because a large batch is sampled faster.
    """
    searches = []
    for place, group in enumerate(groups):
        if group.example.actions and spec.fails(group.rows):
            count = len(group.example.actions)
            searches.append(_Search(place, 1, count, count))
    for _ in range(spec.most_probe_steps):
        unfinished = [search for search in searches if search.low < search.high]
        if not unfinished:
            break
        probes = sample([HintedRequest(each.place, each.middle, spec.probes, "probe") for each in unfinished])
        for search, rows in zip(unfinished, probes, strict=True):
            _count_cost(groups[search.place], rows)
            groups[search.place].extra_verdicts += [row.verdict for row in rows]
            if spec.fails(rows):
                search.low = search.middle + 1
            else:
                search.best = search.high = search.middle
    requests = [HintedRequest(each.place, each.best, len(groups[each.place].rows), "guided") for each in searches]
    for request, rows in zip(requests, sample(requests) if requests else [], strict=True):
        group = groups[request.place]
        _count_cost(group, rows)
        group.shown_actions = request.actions
        group.rows += [replace(row, source_logprobs=row.sampled_logprobs, sampled_logprobs=None) for row in rows]


def _count_cost(group: Group, rows: Sequence[Row]) -> None:
    group.extra_completions += len(rows)
    group.extra_tokens += sum(len(row.own_ids()) for row in rows)
