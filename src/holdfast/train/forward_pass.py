"""Final hidden states at the loss tokens, and the output head for them, in the dtype of matrix products."""

from collections.abc import Sequence

import torch
from torch import Tensor

from holdfast.config.settings import TrainSettings
from holdfast.model.hidden_states import loss_token_states, padded_states
from holdfast.model.policy import Policy
from holdfast.objective.head import Head, TensorHead


class ForwardPass:
    """A forward pass as `train.engine` and `train.bf16` set it.

    With `bf16`, the weights stay in float32, the layers run under autocast, and the head is converted here, because the
    loss multiplies with its weight outside of the model's own forward.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self._bf16 = settings.bf16
        self._fused = settings.engine == "fused"
        self._bf16_heads: dict[int, Head] = {}

    def forget_heads(self) -> None:
        """Drop the converted heads. Call this before each optimizer step: a step may have moved their weights."""
        self._bf16_heads.clear()

    def states_and_head(
        self, policy: Policy, prompts: list[list[int]], completions: list[list[int]], positions: list[Sequence[int]]
    ) -> tuple[Tensor, Head]:
        """Hidden states [N, H] that predict the completions' tokens at `positions`, and the head for them."""
        with torch.autocast(policy.device.type, torch.bfloat16, enabled=self._bf16):
            states = loss_token_states if self._fused else padded_states
            hidden = states(policy, prompts, completions, positions)
        return (hidden.to(torch.bfloat16) if self._bf16 else hidden), self.head(policy)

    def head(self, policy: Policy) -> Head:
        """A policy's output head in the dtype of matrix products.

        A head that gets a gradient is converted every time, since the conversion is a part of the gradient's graph. Any
        other is converted once per optimizer step: it can be most of a small model's weights.
        """
        if not self._bf16:
            return policy.head
        if torch.is_grad_enabled() and policy.head.weight.requires_grad:
            return TensorHead.like(policy.head, lambda tensor: tensor.to(torch.bfloat16))
        key = id(policy.head.projection)
        if key not in self._bf16_heads:
            self._bf16_heads[key] = TensorHead.like(policy.head, lambda tensor: tensor.detach().to(torch.bfloat16))
        return self._bf16_heads[key]
