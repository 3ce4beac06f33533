"""Log-probabilities that models assign to completions that already exist. No gradients.

`vocabulary_logprobs` is the one place that scores completions in batches. It gives the whole distribution at every loss
token; what is computed from it (a token's own log-probability, a KL divergence, an entropy) is the caller's business.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from holdfast import stop
from holdfast.data.example import Example
from holdfast.data.rows import Row
from holdfast.model.hidden_states import longest_packed, loss_token_states, padded_states
from holdfast.model.packing import Positions, micro_batches
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.model.shard import whole
from holdfast.objective.divergence import log_softmax, token_logprobs

LOGIT_BUDGET = 2**25
"""Entries of one [tokens, vocabulary] tensor: 128 MB in float32. A caller holds a few tensors of this size at once."""

Scorer = Policy | Callable[[], AbstractContextManager[Policy]]
"""A model as it is, or what switches a model into the state that scores and back: `Base.scoring` disables the adapter.
"""


class ScoredTokens(NamedTuple):
    """Distributions at some of the loss tokens."""

    places: Tensor
    """[n], on the CPU: the place of each token among all loss tokens, counted through the rows in their given order."""
    logprobs: tuple[Tensor, ...]
    """For each model, log-probabilities over the vocabulary [n, V], in nats, in at least float32."""


@torch.no_grad()
def vocabulary_logprobs(
    models: Sequence[Scorer],
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    positions: Positions | None = None,
    *,
    batch_tokens: int,
    temperature: float = 1.0,
    may_pack: bool = True,
) -> Iterator[ScoredTokens]:
    """Score given completions, in parts that respect `LOGIT_BUDGET`. Every loss token is in exactly one part.

    Parts come in the order of the batches, which is not the order of the rows. Write results to their `places`.

    Args:
        models: score the same tokens, which must mean the same to all of them.
        prompts: token ids [R][P_r]; never empty. Equal prompts of a packed batch are computed once.
        completions: token ids [R][T_r].
        positions: indices of each completion's loss tokens [R]; None: all of its tokens.
        batch_tokens: tokens of one forward pass; see `micro_batches`. A single longer row still runs.
        temperature: logits are divided by it.
        may_pack: False pads every batch. Packing replaces the model's attention implementation, which must not happen
            to a model that other code is training.
    """
    positions = [range(len(completion)) for completion in completions] if positions is None else positions
    ends = torch.tensor([0, *map(len, positions)]).cumsum(0).tolist()
    # Batches are made of rows, of which only the tokens are read.
    rows = [Row(Example("", ()), list(p), list(c)) for p, c in zip(prompts, completions, strict=True)]
    number = {id(row): r for r, row in enumerate(rows)}
    for batch in _batches(models, [row for row, wanted in zip(rows, positions) if wanted], batch_tokens, may_pack):
        stop.poll()
        own = [number[id(row)] for row in batch]
        inputs = [row.prompt_ids for row in batch], [row.completion_ids for row in batch], [positions[r] for r in own]
        states: list[Tensor] = []
        for model in models:
            with _scoring(model) as policy:
                states.append((loss_token_states if may_pack else padded_states)(policy, *inputs))
                per_part = max(1, LOGIT_BUDGET // policy.head.weight.shape[0])
        index = torch.cat([torch.arange(ends[r], ends[r + 1]) for r in own])
        for part, *hidden in zip(index.split(per_part), *(each.split(per_part) for each in states), strict=True):
            logprobs = []
            for model, each in zip(models, hidden, strict=True):
                # Entered again: two models may be one set of weights with and without an adapter, so they take turns.
                with _scoring(model) as policy:
                    logprobs.append(log_softmax(policy.logits(each), temperature))
            yield ScoredTokens(part, tuple(logprobs))


def _scoring(model: Scorer) -> AbstractContextManager[Policy]:
    return nullcontext(model) if isinstance(model, Policy) else model()


def _batches(models: Sequence[Scorer], rows: Sequence[Row], batch_tokens: int, may_pack: bool) -> list[list[Row]]:
    """Rows that every model can pack, in packed batches; all others in padded ones, which count the padding."""
    longest: float = 0
    if may_pack and rows:
        limits = []
        for model in models:
            with _scoring(model) as policy:
                limits.append(longest_packed(policy))
        longest = min(limits)
    fits = [len(row.prompt_ids) + len(row.completion_ids) <= longest for row in rows]
    packed = [row for row, does in zip(rows, fits) if does]
    padded = [row for row, does in zip(rows, fits) if not does]
    return micro_batches(packed, batch_tokens) + micro_batches(padded, batch_tokens, padded=True)


def completion_logprobs(
    policy: Policy, rows: Sequence[Row], *, temperature: float = 1.0, batch_tokens: int = 16384
) -> list[list[float]]:
    """Log-probabilities of each row's loss tokens after its prompt, in the order of the rows, in nats.

    Several processes score a share each, and all return the whole result.
    """
    world = Processes.current()
    share = world.share(rows)
    with whole(policy):
        parts = world.each(lambda: _token_logprobs(policy, share, temperature, batch_tokens))
    return [own for part in parts for own in part]


def _token_logprobs(policy: Policy, rows: Sequence[Row], temperature: float, batch_tokens: int) -> list[list[float]]:
    positions = [row.loss_positions() for row in rows]
    ids = torch.tensor(
        [row.completion_ids[t] for row, wanted in zip(rows, positions) for t in wanted], dtype=torch.long
    )
    values = torch.zeros(len(ids))
    prompts, completions = [row.prompt_ids for row in rows], [row.completion_ids for row in rows]
    scored = vocabulary_logprobs(
        [policy], prompts, completions, positions, batch_tokens=batch_tokens, temperature=temperature
    )
    for index, (logprobs,) in scored:
        values[index] = token_logprobs(logprobs, ids[index].to(logprobs.device)).float().cpu()
    return [own.tolist() for own in values.split([len(wanted) for wanted in positions])]
