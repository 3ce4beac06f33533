"""The base: the model as it was before the first stage."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from holdfast.model.policy import Policy
from holdfast.model.processes import Processes


class Base:
    """The model before the first stage: drift is measured from it, and teachers are reset to it.

    Create it before any training step. In full fine-tuning it is a copy of the model; under LoRA it is the model
    without its adapter.

    Args:
        offload: keep the copy in host memory while it does not score.
    """

    def __init__(self, policy: Policy, *, offload: bool = False) -> None:
        self._policy, self._offload = policy, offload
        self.copy = None if policy.is_lora else frozen_copy(policy, offload)

    @contextmanager
    def scoring(self) -> Iterator[Policy]:
        """Within it, the policy that computes the base's logits, without gradients."""
        with torch.no_grad():
            if self.copy is None:
                with self._policy.base():
                    yield self._policy
            else:
                with self.copy.on(self._policy.device) if self._offload else nullcontext():
                    yield self.copy

    def weights(self) -> dict[str, Tensor]:
        """The base's weights by name. Only in full fine-tuning."""
        assert self.copy is not None
        return dict(self.copy.model.named_parameters())

    @torch.no_grad()
    def blend_in(self, share: float) -> None:
        """Move the policy's weights toward the base's: `share` of theirs, the rest the base's.

        This is WiSE-FT (arXiv 2109.01903). Under LoRA, the products of the adapter are multiplied by `share`.
        """
        trainable = self._policy.named_trainable()
        if self.copy is None:
            for name, weight in trainable.items():
                if ".lora_B." in name or ".lora_embedding_B" in name:
                    weight.mul_(share)
            return
        before = self.weights()
        for name, weight in trainable.items():
            weight.lerp_(before[name].to(weight.device, weight.dtype), 1 - share)

    @torch.no_grad()
    def relative_distance(self) -> float | None:
        """‖θ − θ₀‖ / ‖θ₀‖ over all present weights θ of the policy; tied weights count once.

        None under LoRA, and if the weights are sharded: then they are not here to be compared.
        """
        if self.copy is None or Processes.current().size > 1:
            return None
        student = dict(self._policy.model.named_parameters())
        moved = norm = 0.0
        for name, before in self.weights().items():
            now = student[name].float()
            start = before.to(now.device).float()
            # In float64: the sum over all weights has billions of small terms.
            moved += float(torch.linalg.vector_norm(now - start, dtype=torch.float64)) ** 2
            norm += float(torch.linalg.vector_norm(start, dtype=torch.float64)) ** 2
        return math.sqrt(moved / norm)


def frozen_copy(policy: Policy, offload: bool) -> Policy:
    """A copy without gradients; with `offload`, in host memory."""
    copy = policy.frozen_copy()
    if offload:
        copy.model.to("cpu")
    return copy
