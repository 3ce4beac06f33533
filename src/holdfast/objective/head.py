"""Head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor, nn


class Head(Protocol):
    """From a final hidden state to logits: softcap(scale · (W h + b))."""

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
        """Logits are squeezed to softcap · tanh(logits / softcap) (Gemma 2); None where they are not."""

    def __call__(self, hidden: Tensor) -> Tensor:
        """[..., H] to [..., V]."""


@dataclass(frozen=True)
class OutputHead:
    """A model's output head. `projection` is the model's own module, so that its weight is never stale."""

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
    """An output head of given tensors: a copy of a model's at one moment, or its weights in another dtype."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        return scaled(nn.functional.linear(hidden.to(self.weight.dtype), self.weight, self.bias), self)

    @classmethod
    def like(cls, head: Head, of: Callable[[Tensor], Tensor]) -> Self:
        """A head whose tensors are a function of another's."""
        return cls(of(head.weight), None if head.bias is None else of(head.bias), head.scale, head.softcap)


def scaled(logits: Tensor, head: Head) -> Tensor:
    if head.scale != 1.0:
        logits = logits * head.scale
    return logits if head.softcap is None else torch.tanh(logits / head.softcap) * head.softcap
