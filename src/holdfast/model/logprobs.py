"""Log-probabilities of given completions under a policy, without gradients."""

from collections.abc import Sequence

import torch

from holdfast import stop
from holdfast.data.rows import Row
from holdfast.model.hidden_states import loss_token_states
from holdfast.model.packing import micro_batches
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.model.shard import whole
from holdfast.objective.divergence import log_softmax, token_logprobs

LOGIT_BUDGET = 2**25
"""Entries of one [tokens × vocabulary] tensor; more tokens take turns at the output head."""


def completion_logprobs(
    policy: Policy, rows: Sequence[Row], *, temperature: float = 1.0, batch_tokens: int = 16384
) -> list[list[float]]:
    """Log-probabilities of each row's loss tokens after its prompt, in the order of the rows, in nats.

    Several processes score a share each, and all have the whole result.
    """
    world = Processes.current()
    mine = world.share(rows)
    with whole(policy):
        parts = world.each(lambda: _scored(policy, mine, temperature, batch_tokens))
    return [each for part in parts for each in part]


@torch.no_grad()
def _scored(policy: Policy, rows: Sequence[Row], temperature: float, batch_tokens: int) -> list[list[float]]:
    per_chunk = max(1, LOGIT_BUDGET // policy.head.weight.shape[0])
    found: dict[int, list[float]] = {}
    for batch in micro_batches(rows, batch_tokens):
        stop.poll()
        positions = [row.loss_positions() for row in batch]
        states = loss_token_states(
            policy, [row.prompt_ids for row in batch], [row.completion_ids for row in batch], positions
        )
        ids = torch.tensor([row.completion_ids[t] for row, own in zip(batch, positions, strict=True) for t in own])
        values = [
            token_logprobs(log_softmax(policy.logits(part), temperature), chosen)
            for part, chosen in zip(states.split(per_chunk), ids.to(policy.device).split(per_chunk), strict=True)
        ]
        lengths = [len(own) for own in positions]
        for row, own in zip(batch, torch.cat(values).float().cpu().split(lengths), strict=True):
            found[id(row)] = own.tolist()
    return [found[id(row)] for row in rows]
