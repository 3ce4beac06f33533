"""The teacher: the student itself, a frozen model, one that is refreshed from time to time, or an average in float32.

In full fine-tuning a teacher is a second set of weights. Under LoRA it is a second adapter, or no adapter if the frozen
base is the teacher; the model is never copied.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from holdfast.model.base import Base, frozen_copy
from holdfast.model.policy import Policy
from holdfast.recipes.parts.teacher import TeacherSpec
from holdfast.train.adapter_average import WIDTH, AdapterAverage
from holdfast.train.teacher_refresh import Clock, refresh_of


class Average(Protocol):
    """A teacher's weights, which can be reset and moved toward the student's."""

    def reset(self, to: Literal["student", "base"]) -> None:
        """Set them to the student's present weights, or to the base's."""

    def move(self, rate: float) -> None:
        """θ_T ← (1−rate)·θ_T + rate·θ, with θ the student's weights."""

    def error_bound(self) -> float:
        """A bound on the relative error of the average that is kept; 0 if it is exact to rounding."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""


class WeightAverage:
    """The average of full fine-tuning, in float32 whatever the dtype of the teacher's weights.

    Small rates need it: (1−rate)·θ_T + rate·θ rounds back to θ_T in bfloat16. If the teacher's weights are float32,
    they are the average themselves. Everything is element by element, so each process of a sharded run moves its own
    shards.

    Args:
        teacher: the copy of the model that teaches.
        base: only needed to reset to it.
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
            # On first use and not in `__init__`: in between, a sharded run replaces the weights by their shards.
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
    """A teacher, as its specification describes it. Only `start_stage` and the methods `after_…` change its weights.

    Of kind `trust_region`, this is the frozen part; `SignalSources` mixes it with the student.

    Args:
        base: may be None if the specification never restarts from it.
        offload: keep a copy of the model in host memory while it does not score. Adapters stay: they are small.
    """

    def __init__(self, spec: TeacherSpec, policy: Policy, base: Base | None, *, offload: bool = False) -> None:
        self.spec, self._policy, self._base, self._offload = spec, policy, base, offload
        self.copy: Policy | None = None
        """A copy of the whole model. None under LoRA, and if the student or the base is the teacher."""
        self.average: Average | None = None
        """The weights of that copy or adapter; None if the teacher has neither."""
        self.frozen = False
        """Set while the guard keeps its weights from changing. Only a `first` refresh still happens."""
        self._is_base = spec.kind in ("frozen", "trust_region") and spec.stage_start == "base"
        self._refresh = refresh_of(spec)
        self.refreshes = 0
        """Number in this stage, by schedule or by metrics."""
        if self._is_base and base is None:
            self._base = Base(policy, offload=offload)
        if spec.kind == "live" or self._is_base:
            return
        if policy.is_lora:
            policy.add_teacher(WIDTH if self.moves else 1)
            self.average = AdapterAverage(policy.named_trainable, policy.named_teacher)
        else:
            self.copy = frozen_copy(policy, offload)
            self.average = WeightAverage(policy, self.copy, self._base)

    @property
    def moves(self) -> bool:
        """Whether its weights can change within a stage."""
        return self._refresh is not None or (self.spec.kind == "ema" and self.spec.rate > 0)

    @property
    def can_freeze(self) -> bool:
        """Whether freezing it changes anything. It does not for a `periodic` teacher with one `first` refresh only."""
        return self.moves and not (self.spec.kind == "periodic" and self.spec.every == 0)

    @property
    def waits(self) -> bool:
        """Whether its first refresh is still to come. Until then no row has a teacher."""
        return isinstance(self._refresh, Clock) and self._refresh.waits

    @property
    def moves_within_batch(self) -> bool:
        """Whether it changes between two optimizer steps on the same rollout batch."""
        by_step = self.spec.kind == "ema" and self.moves and self.spec.cadence == "optimizer_step"
        return by_step or self.spec.kind in ("live", "trust_region")

    def start_stage(self) -> None:
        """Reset the weights as the specification's `stage_start` says; "student" is the student as it is now."""
        if self.average is not None and self.spec.stage_start != "keep":
            self.average.reset(self.spec.stage_start)
        self._refresh, self.refreshes = refresh_of(self.spec), 0

    def after_optimizer_step(self) -> None:
        if self.spec.cadence == "optimizer_step":
            self._follow()

    def after_rollout_batch(self, numbers: Mapping[str, Any]) -> None:
        """After the last optimizer step on a rollout batch.

        Args:
            numbers: the rollout batch's metrics.
        """
        if self.spec.cadence == "rollout_batch":
            self._follow()
        self._refresh_if_due(numbers)

    def after_skipped_batch(self) -> None:
        """After a rollout batch whose last step was skipped.

        An average does not move, and a `gated` teacher is not refreshed. The schedule of a `periodic` one still counts
        the batch: recipes set it to the steps at which their phases change, and steps are counted either way.
        """
        if self.spec.kind == "periodic":
            self._refresh_if_due({})

    def _refresh_if_due(self, numbers: Mapping[str, Any]) -> None:
        if self._refresh is not None and self._refresh.due(numbers, frozen=self.frozen):
            self._move(self.spec.share)
            self.refreshes += 1

    def _follow(self) -> None:
        if self.spec.kind == "ema" and self.moves and not self.frozen:
            self._move(self.spec.rate)

    def _move(self, share: float) -> None:
        assert self.average is not None
        if share == 1:
            self.average.reset("student")  # exact; `move` would round
        else:
            self.average.move(share)

    @contextmanager
    def scoring(self) -> Iterator[Policy]:
        """Context manager: yields the policy that computes the teacher's logits, without gradients."""
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
        """The tensors that a checkpoint must hold of the teacher."""
        return self.average.state() if self.average is not None else {}

    def like(self, name: str) -> Tensor | None:
        """The tensor of this name in `state`, as a checkpoint's counterpart is to be laid out over devices."""
        return self.state().get(name)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        if self.average is not None:
            self.average.load_state(dict(tensors))

    def progress(self) -> dict[str, Any]:
        """The plain data that a checkpoint must hold of its refreshes."""
        return {"refreshes": self.refreshes, "refresh": self._refresh.state() if self._refresh is not None else None}

    def load_progress(self, saved: Mapping[str, Any]) -> None:
        self.refreshes = saved["refreshes"]
        if self._refresh is not None:
            self._refresh.load_state(saved["refresh"])
