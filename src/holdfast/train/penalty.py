"""Penalties on the weights: terms of the loss that do not depend on rows, as a recipe specifies them."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from holdfast.model.policy import Policy
from holdfast.model.shard import assembled
from holdfast.model.stage_adapters import StageAdapters
from holdfast.recipes.parts.penalty import FisherPenalty, MovementPenalty, OrthogonalPenalty, PenaltySpec

FisherEstimate = Callable[[], Mapping[str, Tensor]]
"""Returns a new estimate of the Fisher information by parameter; empty if there is nothing to estimate it from."""


class Penalty(Protocol):
    """A term of the loss that depends only on the weights."""

    def begin(self, stage: int, estimate: FisherEstimate) -> None:
        """Prepare a stage, with the weights as they are now. A second call for the same stage does nothing."""

    def add_gradient(self) -> float:
        """Add the term's gradient to the parameters' gradients of a whole step, and return the term's value."""

    def state(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint must hold."""

    def like(self, name: str) -> Tensor | None:
        """A tensor that is laid out over devices as the one of this name in `state` is to be."""

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""

    def progress(self) -> dict[str, Any]:
        """The plain data that a checkpoint must hold."""

    def load_progress(self, saved: Mapping[str, Any]) -> None:
        """Restore what `progress` returned."""


class FisherHold:
    """strength/2 · Σ_i F_i (θ_i − θ*_i)² (EWC), with F the Fisher information and θ* the weights at a stage's start.

    Everything is element by element, so each process of a sharded run has its own shards.
    """

    def __init__(self, spec: FisherPenalty, policy: Policy) -> None:
        self.spec, self._policy = spec, policy
        self._stage = 0
        self.fisher: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}
        """θ*, by parameter. Both are empty while there is nothing to protect."""

    def begin(self, stage: int, estimate: FisherEstimate) -> None:
        if stage == self._stage:
            return
        estimated = estimate()
        decayed = {name: self.spec.decay * earlier for name, earlier in self.fisher.items()}
        # Without an estimate, the earlier information still decays.
        self.fisher = {n: decayed[n] + new if n in decayed else new for n, new in estimated.items()} or decayed
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


class MovementHold:
    """strength · Σ_W mean over S_W of |θ_i − θ_prev,i| (CPO), see `MovementPenalty`.

    It keeps the weights of the stage's start. At the next stage's start they say how far the stage has moved each
    weight, and so which weights are protected from then on.
    """

    def __init__(self, spec: MovementPenalty, policy: Policy) -> None:
        self.spec, self._policy = spec, policy
        self._stage = 0
        self.start: dict[str, Tensor] = {}
        """θ_prev by parameter, in full."""
        self.protected: dict[str, Tensor] = {}
        """By parameter and in its shape, 1 for protected weights and 0 for others; none in the first stage."""
        self._counts: dict[str, int] = {}

    @torch.no_grad()
    def begin(self, stage: int, estimate: FisherEstimate) -> None:
        if stage == self._stage:
            return
        trainable = self._policy.named_trainable()
        for name, before in self.start.items():
            most = self._moved_most((trainable[name] - before).abs()).to(torch.uint8)
            earlier = self.protected.get(name)
            self.protected[name] = most if earlier is None else most | earlier
        self.start = {name: weight.detach().clone() for name, weight in trainable.items()}
        self._stage = stage
        self._count()

    def _moved_most(self, moved: Tensor) -> Tensor:
        """True at the largest entries, of equal ones at all; False where nothing moved."""
        everywhere = assembled(moved).flatten()  # of a sharded weight, the largest are sought among all shards
        count = int(len(everywhere) * self.spec.share)
        if not count:
            return torch.zeros_like(moved, dtype=torch.bool)
        least = everywhere.topk(count, sorted=False).values.min()
        return (moved >= float(least)) & (moved > 0)

    def _count(self) -> None:
        self._counts = {name: int(assembled(mask.sum())) for name, mask in self.protected.items()}

    @torch.no_grad()
    def add_gradient(self) -> float:
        total = 0.0
        for name, parameter in self._policy.named_trainable().items():
            if not self._counts.get(name):
                continue
            moved = (parameter - self.start[name]) * self.protected[name]
            strength = self.spec.strength / self._counts[name]
            total += strength * float(assembled(moved.abs().sum()))
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.add_(moved.sign(), alpha=strength)
        return total

    def state(self) -> dict[str, Tensor]:
        start = {f"start.{name}": value for name, value in self.start.items()}
        return start | {f"protected.{name}": value for name, value in self.protected.items()}

    def like(self, name: str) -> Tensor | None:
        return self._policy.named_trainable().get(name.partition(".")[2])

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        device = self._policy.device
        for prefix in ("start", "protected"):
            own = {name.partition(".")[2]: t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
            setattr(self, prefix, {name: value.to(device) for name, value in own.items()})
        self._count()

    def progress(self) -> dict[str, Any]:
        return {"stage": self._stage}

    def load_progress(self, saved: Mapping[str, Any]) -> None:
        self._stage = saved["stage"]


def penalty_of(spec: PenaltySpec | None, policy: Policy, stages: int) -> Penalty | None:
    """The penalty of a specification, for a stream of so many stages."""
    if spec is None:
        return None
    if isinstance(spec, OrthogonalPenalty):
        return StageAdapters(spec, policy, stages)
    return FisherHold(spec, policy) if isinstance(spec, FisherPenalty) else MovementHold(spec, policy)
