"""Who supervises: the student itself, a frozen model, or a slow average of the student kept in float32.

For full fine-tuning a teacher is a second set of weights. Under LoRA it is a second adapter, or no adapter at all
where the frozen base supervises: never a copy of the model.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from holdfast.objective.spec import TeacherSpec
from holdfast.train.policy import Policy


class Base:
    """The model before the first stage, to measure drift from and to restart teachers with.

    Must be made before any training step; under LoRA it is the model without its adapter.
    """

    def __init__(self, policy: Policy) -> None:
        self._shared = policy if policy.is_lora else None
        self._copy = None if policy.is_lora else policy.frozen_copy()

    @contextmanager
    def scoring(self) -> Iterator[Policy]:
        """Within it, the policy to compute the base's logits with; without gradients."""
        with torch.no_grad():
            if self._shared is not None:
                with self._shared.base():
                    yield self._shared
            else:
                assert self._copy is not None
                yield self._copy

    def weights(self) -> dict[str, Tensor]:
        """The base's weights by name; only for full fine-tuning."""
        assert self._copy is not None
        return dict(self._copy.model.named_parameters())


class Teacher:
    """A teacher as its specification says; `after_optimizer_step` and `after_rollout_batch` alone move its weights."""

    def __init__(self, spec: TeacherSpec, policy: Policy, base: Base | None) -> None:
        """`base` may be None where the specification never restarts from it."""
        self.spec, self._policy, self._base = spec, policy, base
        self._averages: dict[str, Tensor] = {}
        self._copy: Policy | None = None
        self._is_base = spec.kind == "frozen" and spec.stage_start == "base"
        if self._is_base and base is None:
            self._base = Base(policy)
        if spec.kind == "live" or self._is_base:
            return
        if policy.is_lora:
            policy.add_teacher()
        else:
            self._copy = policy.frozen_copy()
        # Where the served weights are float32 they are the average themselves: `float` makes no copy then.
        self._averages = {name: weight.detach().float() for name, weight in self._own_weights().items()}

    def start_stage(self) -> None:
        """What the specification's `stage_start` says; the student is the one in memory now."""
        if self.spec.kind == "live" or self._is_base or self.spec.stage_start == "keep":
            return
        if self.spec.stage_start == "student":
            self._adopt({name: p.detach().float() for name, p in self._policy.named_trainable().items()})
        elif self._policy.is_lora:
            self._policy.reset_teacher("base")
            self._adopt({name: p.detach().float() for name, p in self._own_weights().items()})
        else:
            assert self._base is not None
            self._adopt({name: p.detach().float() for name, p in self._base.weights().items()})

    def after_optimizer_step(self) -> None:
        if self.spec.cadence == "optimizer_step":
            self._average()

    def after_rollout_batch(self) -> None:
        if self.spec.cadence == "rollout_batch":
            self._average()

    @torch.no_grad()
    def _average(self) -> None:
        """θ_T ← (1−rate)·θ_T + rate·θ in float32, whatever the dtype of the weights that are served."""
        if self.spec.kind != "ema" or self.spec.rate == 0:
            return
        served = self._own_weights()
        for name, student in self._policy.named_trainable().items():
            average = self._averages[name].lerp_(student.detach().float(), self.spec.rate)
            served[name].copy_(average)

    @torch.no_grad()
    def _adopt(self, weights: dict[str, Tensor]) -> None:
        served = self._own_weights()
        for name, average in self._averages.items():
            average.copy_(weights[name])
            served[name].copy_(average)

    def _own_weights(self) -> dict[str, Tensor]:
        """The served weights of the teacher, under the names of the student's."""
        if self._policy.is_lora:
            return dict(self._policy.named_teacher())
        assert self._copy is not None
        return dict(self._copy.model.named_parameters())

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
                assert self._copy is not None
                yield self._copy

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold of the teacher."""
        return self._averages

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self._adopt(tensors)
