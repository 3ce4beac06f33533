"""Negative log-likelihood (NLL) of demonstrations, as training encodes them, under a policy."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from holdfast.data.example import Example
from holdfast.data.task import Suite, Task
from holdfast.errors import DataError
from holdfast.measure.likelihood import ItemNll
from holdfast.model.logprobs import vocabulary_logprobs
from holdfast.model.policy import Policy
from holdfast.objective.divergence import token_logprobs


class DemonstrationTooLong(DataError):  # noqa: N818 - the name says it
    """A prompt and its demonstration together are longer than the model's context."""


def target_ids(policy: Policy, each: Task | Suite, example: Example, prompt_ids: Sequence[int]) -> list[int] | None:
    """The tokens whose likelihood an example is scored by: its demonstration, thoughts included. None without one.

    In a judged set the NLL is an addition, so a demonstration that cannot be encoded or does not fit is left out. Sets
    of several turns have none, because their demonstrations depend on what an environment answers.

    Raises:
        DataError: nothing judges the set, and the example has no demonstration or one that cannot be encoded.
        DemonstrationTooLong: nothing judges the set, and prompt and demonstration do not fit the model's context.
    """
    if example.demonstration is None and not each.is_judged:
        raise DataError(
            "there is nothing to judge its answer by",
            where=f"{'task' if isinstance(each, Task) else 'suite'} {each.name!r}, test example {example.id!r}",
            fix="name a `verifier`, or give the example an `answer` or a `completion`",
        )
    if example.demonstration is None or each.episodes is not None:
        return None
    try:
        ids = demonstration_ids(policy, example, where=f"{each.name}: {example.id}")
        _check_context(policy, len(prompt_ids) + len(ids), f"{each.name}: {example.id}")
    except DataError:
        if not each.is_judged:
            raise
        return None
    return ids


def demonstration_ids(policy: Policy, example: Example, *, where: str) -> list[int]:
    """Token ids of a demonstration's last turn, as training encodes it."""
    return policy.chat_format.encode_demonstration(replace(example, trained_turns=()), where=where).ids


def _check_context(policy: Policy, length: int, where: str) -> None:
    limit = policy.context_length
    if limit is not None and length > limit:
        raise DemonstrationTooLong(
            f"prompt and demonstration have {length} tokens, more than the model's context of {limit}",
            where=where,
            fix="leave the example out, or drop such examples with train.long_prompts: drop",
        )


def demonstrations_nll(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int] | None],
    *,
    batch_tokens: int,
    may_pack: bool = True,
) -> list[ItemNll | None]:
    """NLL of each target after its prompt, in nats per token at temperature 1; None where there is no target.

    Args:
        prompts, targets: token ids [R][·].
        batch_tokens, may_pack: see `vocabulary_logprobs`.
    """
    places = [r for r, target in enumerate(targets) if target]
    completions = [list(target) for target in targets if target]
    ids = torch.tensor([token for completion in completions for token in completion], dtype=torch.long)
    values = torch.zeros(len(ids), dtype=torch.float64)
    scored = vocabulary_logprobs(
        [policy], [prompts[r] for r in places], completions, batch_tokens=batch_tokens, may_pack=may_pack
    )
    for index, (logprobs,) in scored:
        values[index] = token_logprobs(logprobs, ids[index].to(logprobs.device)).double().cpu()
    items: list[ItemNll | None] = [None] * len(targets)
    for r, own in zip(places, values.split([len(completion) for completion in completions]), strict=True):
        items[r] = {"nll": -float(own.mean()), "tokens": len(own)}
    return items
