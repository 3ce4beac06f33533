"""How far the demonstrations of tasks are from the policy's own answers; see `measure.demonstration_distance`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch

from holdfast.data.example import Example
from holdfast.data.seeds import derive_seed, numpy_rng
from holdfast.data.task import Task
from holdfast.errors import DataError
from holdfast.evaluation.evaluator import Evaluator
from holdfast.measure.demonstration_distance import TOP_K, DemonstrationDistance, PromptVoices, ScoredText
from holdfast.model.logprobs import vocabulary_logprobs
from holdfast.model.shard import whole
from holdfast.objective.divergence import token_logprobs
from holdfast.sampling.sampler import Request


@dataclass(frozen=True, slots=True)
class _Demonstrated:
    """A training example with a demonstration, in tokens."""

    example: Example
    prompt_ids: list[int]
    ids: list[int]


def demonstration_distances(evaluator: Evaluator, tasks: Sequence[Task], items: int) -> list[DemonstrationDistance]:
    """The distance of each task's demonstrations. Tasks without any, and tasks of several turns, are left out.

    To each prompt the policy samples one answer at temperature 1, and gives one greedily. Prompts and draws are named
    by task and example alone, so two runs on one model measure the same. Several processes take a share each, and all
    return the whole result.

    Args:
        evaluator: with the policy, the longest answer, and the processes.
        items: prompts per task, drawn from its training examples.
    """
    chosen = [(task, own) for task in tasks if (own := _chosen(evaluator, task, items))]
    every = [(task, each) for task, own in chosen for each in own]
    share = evaluator.world.share(every)
    with whole(evaluator.policy):
        parts = evaluator.world.each(lambda: _voices(evaluator, share))
    voices = iter([each for part in parts for each in part])
    return [DemonstrationDistance.of(task.name, list(islice(voices, len(own)))) for task, own in chosen]


def _chosen(evaluator: Evaluator, task: Task, items: int) -> list[_Demonstrated]:
    """Some training examples of a task whose demonstrations can be encoded and fit the context."""
    if task.episodes is not None:
        return []
    chat_format, limit = evaluator.policy.chat_format, evaluator.policy.context_length
    found: list[_Demonstrated] = []
    for index in numpy_rng("demonstration distance", task.name).permutation(len(task.train)).tolist():
        example = task.train[index]
        if len(found) == items:
            break
        if example.demonstration is None:
            continue
        try:
            shown = chat_format.encode_demonstration(replace(example, trained_turns=()), where=example.id)
        except DataError:
            continue  # training reports it
        longest = len(shown.prompt_ids) + max(len(shown.ids), evaluator.max_completion_length)
        if len(shown.prompt_ids) <= evaluator.max_prompt_length and (limit is None or longest <= limit):
            found.append(_Demonstrated(example, shown.prompt_ids, shown.ids))
    return found


def _voices(evaluator: Evaluator, asked: Sequence[tuple[Task, _Demonstrated]]) -> list[PromptVoices]:
    requests = [
        Request(each.prompt_ids, derive_seed("demonstration distance", task.name, each.example.id), temperature)
        for task, each in asked
        for temperature in (1.0, 0.0)
    ]
    answers = evaluator.generate(evaluator.sampler, requests)
    samples, greedy = answers[::2], answers[1::2]
    read = evaluator.policy.chat_format.decode
    prompts = [each.prompt_ids for _, each in asked]
    texts = [each.example.demonstration or "" for _, each in asked] + [read(each.ids) for each in samples]
    completions = [*(each.ids for _, each in asked), *(each.ids for each in samples)]
    scored = _scored(evaluator, 2 * prompts, completions)
    named = [ScoredText(text, *numbers) for text, numbers in zip(texts, scored, strict=True)]
    return [
        PromptVoices(each.example.id, named[i], named[len(asked) + i], read(greedy[i].ids), len(greedy[i].ids))
        for i, (_, each) in enumerate(asked)
    ]


def _scored(
    evaluator: Evaluator, prompts: Sequence[list[int]], completions: Sequence[list[int]]
) -> list[tuple[int, float, int]]:
    """Of each completion: its tokens, their summed NLL, and how many are outside of the top `TOP_K`."""
    ids = torch.tensor([token for completion in completions for token in completion], dtype=torch.long)
    nll, outside = torch.zeros(len(ids), dtype=torch.float64), torch.zeros(len(ids), dtype=torch.long)
    # The setting is a budget for sampling. A forward pass holds the activations of every token.
    budget = max(1, evaluator.settings.batch_tokens // 4)
    parts = vocabulary_logprobs(
        [evaluator.policy], prompts, completions, batch_tokens=budget, may_pack=evaluator.may_pack
    )
    for index, (logprobs,) in parts:
        own = token_logprobs(logprobs, ids[index].to(logprobs.device))
        nll[index] = -own.double().cpu()
        outside[index] = ((logprobs > own[:, None]).sum(-1) >= TOP_K).long().cpu()
    lengths = [len(completion) for completion in completions]
    return [
        (len(values), float(values.sum()), int(unlikely.sum()))
        for values, unlikely in zip(nll.split(lengths), outside.split(lengths), strict=True)
    ]
