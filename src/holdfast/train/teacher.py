"""Who supervises: the student itself, a frozen model, one that is refreshed now and then, or a slow average in float32.

For full fine-tuning a teacher is a second set of weights. Under LoRA it is a second adapter, or no adapter at all
where the frozen base supervises: never a copy of the model.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from holdfast.model.base import Base, _copy
from holdfast.model.policy import Policy
from holdfast.recipes.parts.teacher import TeacherSpec
from holdfast.train.adapter_average import WIDTH, AdapterAverage
from holdfast.train.teacher_refresh import Clock, refresh_of


class Average(Protocol):
    """Weights of a teacher that can be set back, and moved toward the student's."""

    def reset(self, to: Literal["student", "base"]) -> None: ...
    def move(self, rate: float) -> None: ...
    def error_bound(self) -> float: ...
    def state(self) -> dict[str, Tensor]: ...
    def load_state(self, tensors: dict[str, Tensor]) -> None: ...


class WeightAverage:
    """θ_T ← (1−rate)·θ_T + rate·θ in float32, whatever the dtype of the weights that are served.

    Where the served weights are float32 they are the average themselves. Everything is element-wise, so that each
    process of a sharded run moves its own shards.
    """

    def __init__(self, student: Policy, teacher: Policy, base: Base | None) -> None:
        self._student, self._teacher, self._base = student, teacher, base
        self._averages: dict[str, Tensor] = {}

    def reset(self, to: Literal["student", "base"]) -> None:
        if to == "student":
            self.load_state({name: weight.detach() for name, weight in self._student.named_trainable().items()})
        else:
            assert self._base is not None
            self.load_state(self._base.weights())

    @torch.no_grad()
    def move(self, rate: float) -> None:
        served = self._served()
        averages = self.state()
        for name, weight in self._student.named_trainable().items():
            average = averages[name].lerp_(weight.detach().to(averages[name].device, torch.float32), rate)
            served[name].copy_(average)

    def error_bound(self) -> float:
        return 0.0

    def state(self) -> dict[str, Tensor]:
        if not self._averages:
            # Only now, and not when it is made: a sharded run replaces the weights by their shards in between.
            self._averages = {name: weight.detach().float() for name, weight in self._served().items()}
        return self._averages

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor]) -> None:
        served = self._served()
        for name, average in self.state().items():
            average.copy_(tensors[name])
            served[name].copy_(average)

    def _served(self) -> dict[str, Tensor]:
        return dict(self._teacher.model.named_parameters())


class Teacher:
    """A teacher as its specification says; the methods `after_…` alone move its weights.

    Of a teacher of kind `trust_region`, this is the frozen part; who scores adds the student's.

    Args:
        base: may be None where the specification never restarts from it.
        offload: keep weights of its own in host memory while it does not score; an adapter is too small to matter.
    """

    def __init__(self, spec: TeacherSpec, policy: Policy, base: Base | None, *, offload: bool = False) -> None:
        self.spec, self._policy, self._base, self._offload = spec, policy, base, offload
        self.copy: Policy | None = None
        self.average: Average | None = None
        """Weights of its own; None for a teacher that has none."""
        self.frozen = False
        """Its weights stand still for now, whatever the specification says but for a `first` refresh."""
        self._is_base = spec.kind in ("frozen", "trust_region") and spec.stage_start == "base"
        self._refresh = refresh_of(spec)
        self.refreshes = 0
        """Of this stage, by the clock or by the gate."""
        if self._is_base and base is None:
            self._base = Base(policy, offload=offload)
        if spec.kind == "live" or self._is_base:
            return
        if policy.is_lora:
            policy.add_teacher(WIDTH if self.moves else 1)
            self.average = AdapterAverage(policy.named_trainable, policy.named_teacher)
        else:
            self.copy = _copy(policy, offload)
            self.average = WeightAverage(policy, self.copy, self._base)

    @property
    def moves(self) -> bool:
        """Whether its weights follow the student's within a stage."""
        return self._refresh is not None or (self.spec.kind == "ema" and self.spec.rate > 0)

    @property
    def can_stand_still(self) -> bool:
        """Whether there is anything that freezing it holds back: a clock's one refresh it does not."""
        return self.moves and not (self.spec.kind == "periodic" and self.spec.every == 0)

    @property
    def waits(self) -> bool:
        """Whether its first refresh is still to come, before which nobody is taught by it."""
        return isinstance(self._refresh, Clock) and self._refresh.waits

    @property
    def moves_within_batch(self) -> bool:
        """Whether what it says changes between two optimizer steps on the same rollout batch."""
        by_step = self.spec.kind == "ema" and self.moves and self.spec.cadence == "optimizer_step"
        return by_step or self.spec.kind in ("live", "trust_region")

    def start_stage(self) -> None:
        """What the specification's `stage_start` says; the student is the one in memory now."""
        if self.average is not None and self.spec.stage_start != "keep":
            self.average.reset(self.spec.stage_start)
        self._refresh, self.refreshes = refresh_of(self.spec), 0

    def after_optimizer_step(self) -> None:
        if self.spec.cadence == "optimizer_step":
            self._follow()

    def after_rollout_batch(self, numbers: Mapping[str, Any]) -> None:
        """After the last optimizer step on a rollout batch, which has measured these numbers."""
        if self.spec.cadence == "rollout_batch":
            self._follow()
        self._look(numbers)

    def after_lost_batch(self) -> None:
        """After a rollout batch whose last step took nothing: an average stays, a gate is not asked, a clock goes on.

        It may be set by the stage's steps: where a recipe's phases change by these, its teacher must change with them.
        """
        if self.spec.kind == "periodic":
            self._look({})

    def _look(self, numbers: Mapping[str, Any]) -> None:
        if self._refresh is not None and self._refresh.due(numbers, frozen=self.frozen):
            self._move(self.spec.share)
            self.refreshes += 1

    def _follow(self) -> None:
        if self.spec.kind == "ema" and self.moves and not self.frozen:
            self._move(self.spec.rate)

    def _move(self, share: float) -> None:
        assert self.average is not None
        if share == 1:
            self.average.reset("student")  # exact, where a move would round
        else:
            self.average.move(share)

    @contextmanager
    def scoring(self) -> Iterator[Policy]:
        """Within it, the policy to compute the teacher's logits with; without gradients."""
        with torch.no_grad():
            if self.spec.kind == "live":
                yield self._policy
            elif self._is_base:
                assert self._base is not None
                with self._base.scoring() as base:
                    yield base
            elif self._policy.is_lora:
                with self._policy.adapter("teacher"):
                    yield self._policy
            else:
                assert self.copy is not None
                with self.copy.on(self._policy.device) if self._offload else nullcontext():
                    yield self.copy

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold of the teacher."""
        return self.average.state() if self.average is not None else {}

    def like(self, name: str) -> Tensor | None:
        """The tensor of a name in `state`."""
        return self.state().get(name)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        if self.average is not None:
            self.average.load_state(dict(tensors))

    def progress(self) -> dict[str, Any]:
        """What a checkpoint must hold of its refreshes, as plain data."""
        return {"refreshes": self.refreshes, "refresh": self._refresh.state() if self._refresh is not None else None}

    def load_progress(self, saved: Mapping[str, Any]) -> None:
        self.refreshes = saved["refreshes"]
        if self._refresh is not None:
            self._refresh.load_state(saved["refresh"])
