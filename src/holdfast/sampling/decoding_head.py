"""The output head for decoding: logits of the few rows of one step.

A product of a large matrix with few rows spends half of its time or more on reordering the weights into the layout that
the matrix library works with. A head that is used for many steps is reordered once.
"""

import torch
from torch import Tensor, nn

from holdfast.model.policy import Policy
from holdfast.objective.head import scaled
from holdfast.objective.private_torch import has_onednn_layout, onednn_layout, onednn_linear

PASSES = 8
"""Reordering takes about as long as it saves in this many passes, so the head is reordered after as many."""


class DecodingHead:
    """A policy's output head. Its logits are float32. After the weights have changed, a new one must be made.

    On a CPU in float32 it keeps a second copy of the weights, reordered for oneDNN, after `PASSES` passes.
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
