"""Logits of the few rows of a decoding step.

Products of a large matrix with few rows are where matrix libraries differ most: from the layout in which the weights
are stored, they spend half of the time or more on bringing them into their own. A head that is used again and
again is laid out once.
"""

import torch
from torch import Tensor, nn

from holdfast.model.policy import Policy
from holdfast.objective.head import scaled
from holdfast.objective.private_torch import has_onednn_layout, onednn_layout, onednn_linear

PASSES = 8
"""Laying out takes about as long as so many passes gain, so a head is laid out when it has been used as often."""


class DecodingHead:
    """A policy's output head with its weights as they are at the first call; logits in float32.

    On a CPU in float32 the weights are laid out for oneDNN, a second copy of them, after `PASSES` passes.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        projection = policy.head.projection
        self._suits = (
            type(projection) is nn.Linear
            and projection.weight.device.type == "cpu"
            and projection.weight.dtype == torch.float32
            and has_onednn_layout()
        )
        self._passes = 0
        self._packed: Tensor | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        """[R, H] to [R, V]."""
        self._passes += 1
        if not self._suits or self._passes <= PASSES:
            return self._policy.logits(hidden).float()
        head = self._policy.head
        if self._packed is None:
            self._packed = onednn_layout(head.weight.detach(), hidden.shape[0])
            plain = self._policy.logits(hidden).float()
            laid_out = scaled(onednn_linear(hidden, self._packed, head.bias), head)
            # These operations are not torch's public ones: what they give is looked at before it is relied on.
            self._suits = bool(torch.allclose(laid_out, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max())))
            return plain
        return scaled(onednn_linear(hidden, self._packed, head.bias), head)
