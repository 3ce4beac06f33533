"""What holds the weights themselves: terms of the loss that no row carries, executed as a recipe has specified them."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from holdfast.model.policy import Policy
from holdfast.model.shard import assembled
from holdfast.model.stage_adapters import StageAdapters
from holdfast.recipes.parts.penalty import FisherPenalty, PenaltySpec

FisherEstimate = Callable[[], Mapping[str, Tensor]]
"""Gives a new estimate of the Fisher information by parameter; empty where there is nothing to estimate it from."""


class Penalty(Protocol):
    """A term of the loss that depends on the weights alone."""

    def begin(self, stage: int, estimate: FisherEstimate) -> None:
        """Make ready for a stage, with the weights as they are now; a second call for the same stage does nothing."""

    def add_gradient(self) -> float:
        """Add the term's gradient to the parameters', once these are those of the whole step; returns its value."""

    def state(self) -> dict[str, Tensor]: ...
    def like(self, name: str) -> Tensor | None: ...
    def load_state(self, tensors: Mapping[str, Tensor]) -> None: ...
    def progress(self) -> dict[str, Any]: ...
    def load_progress(self, saved: Mapping[str, Any]) -> None: ...


class FisherHold:
    """strength/2 · Σ_i F_i (θ_i − θ*_i)², element by element, so that each process holds its own shards."""

    def __init__(self, spec: FisherPenalty, policy: Policy) -> None:
        self.spec, self._policy = spec, policy
        self._stage = 0
        self.fisher: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}
        """θ*, by parameter; both are empty while there is nothing to protect."""

    def begin(self, stage: int, estimate: FisherEstimate) -> None:
        if stage == self._stage:
            return
        found = estimate()  # by gradients
        decayed = {name: self.spec.decay * known for name, known in self.fisher.items()}
        self.fisher = {name: decayed[name] + new if name in decayed else new for name, new in found.items()} or decayed
        trainable = self._policy.named_trainable()
        self.anchor = {name: trainable[name].detach().clone() for name in self.fisher}
        self._stage = stage

    @torch.no_grad()
    def add_gradient(self) -> float:
        total = 0.0
        for name, parameter in self._policy.named_trainable().items():
            if name not in self.fisher:
                continue
            moved = parameter - self.anchor[name]
            pull = self.spec.strength * self.fisher[name] * moved
            total += float(assembled((pull * moved).sum())) / 2
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.add_(pull)
        return total

    def state(self) -> dict[str, Tensor]:
        fisher = {f"fisher.{name}": value for name, value in self.fisher.items()}
        return fisher | {f"anchor.{name}": value for name, value in self.anchor.items()}

    def like(self, name: str) -> Tensor | None:
        return self._policy.named_trainable().get(name.partition(".")[2])

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        device = self._policy.device
        for prefix in ("fisher", "anchor"):
            own = {name.partition(".")[2]: t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
            setattr(self, prefix, {name: value.to(device) for name, value in own.items()})

    def progress(self) -> dict[str, Any]:
        return {"stage": self._stage}

    def load_progress(self, saved: Mapping[str, Any]) -> None:
        self._stage = saved["stage"]


def penalty_of(spec: PenaltySpec | None, policy: Policy, stages: int) -> Penalty | None:
    """What carries out a specification over a stream of so many stages."""
    if spec is None:
        return None
    return FisherHold(spec, policy) if isinstance(spec, FisherPenalty) else StageAdapters(spec, policy, stages)
