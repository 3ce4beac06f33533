"""Base."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from holdfast.model.policy import Policy
from holdfast.model.processes import Processes


class Base:
    """The model before the first stage, to measure drift from and to restart teachers with.

    Must be made before any training step; under LoRA it is the model without its adapter.

    Args:
        offload: keep its weights in host memory while it does not score.
    """

    def __init__(self, policy: Policy, *, offload: bool = False) -> None:
        self._policy, self._offload = policy, offload
        self.copy = None if policy.is_lora else _copy(policy, offload)

    @contextmanager
    def scoring(self) -> Iterator[Policy]:
        """Within it, the policy to compute the base's logits with; without gradients."""
        with torch.no_grad():
            if self.copy is None:
                with self._policy.base():
                    yield self._policy
            else:
                with self.copy.on(self._policy.device) if self._offload else nullcontext():
                    yield self.copy

    def weights(self) -> dict[str, Tensor]:
        """The base's weights by name; only for full fine-tuning."""
        assert self.copy is not None
        return dict(self.copy.model.named_parameters())

    @torch.no_grad()
    def relative_distance(self) -> float | None:
        """‖θ − θ₀‖ / ‖θ₀‖ over all weights of the policy as it is now, tied ones once.

        None where the weights are not here to be compared: under LoRA, and spread over processes.
        """
        if self.copy is None or Processes.current().size > 1:
            return None
        student = dict(self._policy.model.named_parameters())
        moved = norm = 0.0
        for name, before in self.weights().items():
            now = student[name].float()
            start = before.to(now.device).float()
            moved += float(torch.linalg.vector_norm(now - start, dtype=torch.float64)) ** 2
            norm += float(torch.linalg.vector_norm(start, dtype=torch.float64)) ** 2
        return math.sqrt(moved / norm)


def _copy(policy: Policy, offload: bool) -> Policy:
    copy = policy.frozen_copy()
    if offload:
        copy.model.to("cpu")
    return copy
