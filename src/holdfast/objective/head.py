"""Output heads: from final hidden states to logits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor, nn


class Head(Protocol):
    """softcap(scale · (W h + b)), from a final hidden state h [H] to logits [V]."""

    @property
    def weight(self) -> Tensor:
        """[V, H]."""

    @property
    def bias(self) -> Tensor | None:
        """[V], or None."""

    @property
    def scale(self) -> float: ...

    @property
    def softcap(self) -> float | None:
        """c in c · tanh(logits / c), which keeps logits between −c and c (Gemma 2); None for no cap."""

    def __call__(self, hidden: Tensor) -> Tensor:
        """[..., H] to [..., V]."""


@dataclass(frozen=True)
class OutputHead:
    """A model's output head. It keeps the model's own module, so its weight is always the current one."""

    projection: nn.Module
    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        return scaled(self.projection(hidden), self)

    @property
    def weight(self) -> Tensor:
        return self.projection.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        return getattr(self.projection, "bias", None)


@dataclass(frozen=True)
class TensorHead:
    """An output head of given tensors, such as a copy of a model's, or its weights in another dtype."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        return scaled(nn.functional.linear(hidden.to(self.weight.dtype), self.weight, self.bias), self)

    @classmethod
    def like(cls, head: Head, of: Callable[[Tensor], Tensor]) -> Self:
        """A head with another's scale and soft cap, whose tensors are `of` the other's."""
        return cls(of(head.weight), None if head.bias is None else of(head.bias), head.scale, head.softcap)


def scaled(logits: Tensor, head: Head) -> Tensor:
    """Apply a head's scale and soft cap to W h + b."""
    if head.scale != 1.0:
        logits = logits * head.scale
    return logits if head.softcap is None else torch.tanh(logits / head.softcap) * head.softcap
