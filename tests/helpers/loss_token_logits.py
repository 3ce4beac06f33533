"""Logits of loss tokens. Training never holds them for a whole batch."""

from collections.abc import Sequence

from torch import Tensor

from holdfast.model.hidden_states import loss_token_states
from holdfast.model.packing import Positions
from holdfast.model.policy import Policy


def loss_token_logits(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    positions: Positions,
) -> Tensor:
    """Logits [N, V] of the same tokens; see `loss_token_states`."""
    return policy.logits(loss_token_states(policy, prompts, completions, positions))
