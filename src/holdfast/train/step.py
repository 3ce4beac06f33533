"""One optimizer step on annotated rows. The engine does not know the recipe: it reads the rows' annotations only."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import median_low
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from holdfast.config.settings import TrainSettings
from holdfast.data.rows import Row
from holdfast.errors import RunError
from holdfast.model.base import Base
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.objective.batch import Batch, row_coefficients, store_old_logprobs
from holdfast.objective.fused.loss import fused_loss_and_statistics
from holdfast.objective.loss import loss_and_statistics, summarize
from holdfast.objective.signals import HiddenSignal, Signal
from holdfast.recipes.parts.objective import Objective
from holdfast.train.forward_pass import ForwardPass
from holdfast.train.micro_batches import MicroBatch, split_step
from holdfast.train.penalty import Penalty
from holdfast.train.signal_sources import SignalSources
from holdfast.train.teacher import Teacher

LEAST_TAU = 1e-6
"""Least value of a measured τ, as in TALR's released code: rows that are known by heart have an NLL of 0."""


def learning_rate(settings: TrainSettings, step: int, steps: int) -> float:
    """The learning rate of step `step` (from 0) of a stage of `steps` steps: a linear warm-up, then the schedule."""
    warm_up = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    progress = min(1.0, max(0, step - settings.warmup_steps) / max(1, steps - settings.warmup_steps))
    factor = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    return settings.learning_rate * warm_up * factor[settings.lr_scheduler_type]


class NotFiniteError(RunError):
    """A step's loss or gradient is not finite. No weight has moved.

    Attributes:
        numbers: the step's metrics.
    """

    def __init__(self, what: str, where: str, numbers: dict[str, Any]) -> None:
        super().__init__(what, where=where, fix="lower train.learning_rate")
        self.numbers = {"grad_norm": None} | numbers


class StageTrainer:
    """The optimizer of one stage. Every stage starts with a fresh one, as a new run would.

    Args:
        penalty: a term of the loss on the weights themselves. A step without any signal leaves it out too.
    """

    def __init__(
        self,
        policy: Policy,
        teacher: Teacher | None,
        base: Base | None,
        objective: Objective,
        settings: TrainSettings,
        penalty: Penalty | None = None,
    ) -> None:
        self.policy, self.teacher, self.base, self.penalty = policy, teacher, base, penalty
        self.objective, self.settings = objective, settings
        self.world = Processes.current()
        self.poll: Callable[[], None] = lambda: None
        """Called before every micro-batch. It may raise to leave the step; no weight has moved then."""
        self.parameters = policy.named_trainable()
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=settings.learning_rate,
            betas=(settings.adam_beta1, settings.adam_beta2),
            weight_decay=settings.weight_decay,
        )
        self.forward = ForwardPass(settings)
        self.signals = SignalSources(policy, teacher, base, objective, settings, self.forward)

    def step(
        self, rows: Sequence[Row], rate: float, *, where: str, first: bool = True, more: bool = False
    ) -> dict[str, Any]:
        """Take one optimizer step and return its metrics.

        If no row has a signal, nothing moves: neither momentum nor weight decay.

        Args:
            rows: all rows of the step. Rows without a signal are included, because they may count in the reduction.
            rate: the learning rate.
            where: stage and step, for messages.
            first: this is the first step on these rows.
            more: there are further steps on these rows. Then the first step stores its log-probabilities as the rows'
                `old_logprobs`, and keeps the teacher's and the base's signals.

        Raises:
            NotFiniteError: the loss or the gradient is not finite; raised before the weights move.
        """
        numbers = self.forward_backward(rows, where=where, first=first, more=more)
        numbers |= {"grad_norm": 0.0, "learning_rate": rate}
        if numbers["active_rows"]:
            numbers["grad_norm"] = norm = self._clipped_norm()
            if not math.isfinite(norm):
                self.optimizer.zero_grad(set_to_none=True)
                raise NotFiniteError(f"the gradient's norm is {norm}", where, numbers)
            self._move(rate)
            if self.teacher is not None and self.teacher.average is not None and self.policy.is_lora:
                numbers["teacher_error_bound"] = self.teacher.average.error_bound()
        if not more:
            self.forget()
        return numbers

    def forward_backward(
        self, rows: Sequence[Row], *, where: str, first: bool = True, more: bool = False
    ) -> dict[str, Any]:
        """The step without moving weights: it adds to the parameters' gradients. Arguments and errors as in `step`."""
        return self._run_micro_batches(rows, where=where, first=first, more=more, backward=True)

    def measure(self, rows: Sequence[Row], *, where: str) -> dict[str, Any]:
        """The metrics that a step on these rows would have, without gradients. Call it between rollout batches only.

        Raises:
            NotFiniteError: the loss is not finite.
        """
        with torch.no_grad():
            return self._run_micro_batches(rows, where=where, first=True, more=False, backward=False)

    def _run_micro_batches(
        self, rows: Sequence[Row], *, where: str, first: bool, more: bool, backward: bool
    ) -> dict[str, Any]:
        """Loss, gradients and metrics of a step, one micro-batch after the other."""
        if first:
            self.forget()
        self.forward.forget_heads()
        # Over all rows of the step, so that the micro-batches' losses add up to the step's.
        coefficients = row_coefficients(rows, self.objective, self.settings.max_completion_length)
        coefficient_of = {id(row): c for row, c in zip(rows, coefficients, strict=True)}
        active = [row for row in rows if row.has_signal]
        micro_batches = split_step(active, self.policy, self.settings, self.world)
        objective = self._with_measured_tau(micro_batches)
        total = torch.zeros((), device=self.policy.device)
        statistics: list[dict[str, Tensor]] = []
        logprobs: list[tuple[list[Row], Tensor]] = []
        with self.signals.whole_heads():
            for number, micro_batch in enumerate(micro_batches):
                self.poll()
                weights = [coefficient_of[id(row)] if micro_batch.counts else 0.0 for row in micro_batch.rows]
                batch = Batch.from_rows(micro_batch.rows, weights, self.policy.device)
                signals = self.signals.of(micro_batch.rows, active, first=first, keep=more)
                loss, stats = self.policy.run(partial(self._loss, micro_batch.rows, batch, objective, *signals))
                if backward:
                    self.policy.backward(loss, last=number + 1 == len(micro_batches))
                if micro_batch.counts:
                    total += loss.detach()
                    logprobs.append((micro_batch.rows, stats.pop("logprobs")))
                    statistics.append(stats)
        by_process = self.world.gather((total.item(), [{k: v.cpu() for k, v in s.items()} for s in statistics]))
        loss_value = sum(value for value, _ in by_process)
        numbers: dict[str, Any] = {"loss": loss_value, "rows": len(rows), "active_rows": len(active)}
        numbers |= summarize([stats for _, of_process in by_process for stats in of_process])
        if objective is not self.objective and objective.token_weight is not None:
            numbers["tau"] = objective.token_weight.tau
        if self.penalty is not None and backward:
            numbers["penalty"] = self.penalty.add_gradient() if active else None
            numbers["loss"] = loss_value = loss_value + (numbers["penalty"] or 0.0)
        if not math.isfinite(loss_value):
            self.optimizer.zero_grad(set_to_none=True)
            raise NotFiniteError(f"the loss is {loss_value}", where, numbers)
        if first and more:
            self._store_old_logprobs(rows, logprobs)
        return numbers

    def _with_measured_tau(self, micro_batches: Sequence[MicroBatch]) -> Objective:
        """The objective with the number for `TokenWeight.tau: median`: the median over rows of their mean NLL.

        It is over all rows of the step, so it takes a forward pass of its own. Of two medians the lower one counts.
        """
        weight = self.objective.token_weight
        if weight is None or weight.tau != "median":
            return self.objective
        own: list[float] = []
        plain = Objective(temperature=self.objective.temperature)
        with torch.no_grad():
            for micro_batch in micro_batches:
                self.poll()
                batch = Batch.from_rows(micro_batch.rows, [1.0] * len(micro_batch.rows), self.policy.device)
                _, stats = self.policy.run(partial(self._loss, micro_batch.rows, batch, plain, None, None))
                lengths = [len(row.loss_positions()) for row in micro_batch.rows]
                means = [-float(part.mean()) for part in stats["logprobs"].split(lengths)]
                own += [nll for nll, row in zip(means, micro_batch.rows) if micro_batch.counts and row.ce]
        every = [nll for of_process in self.world.gather(own) for nll in of_process]
        tau = max(median_low(every), LEAST_TAU) if every else 1.0
        return replace(self.objective, token_weight=replace(weight, tau=tau))

    def _loss(
        self, rows: list[Row], batch: Batch, objective: Objective, teacher: Signal | None, base: Signal | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The student's forward pass and the loss of a micro-batch, by the engine that is set."""
        hidden, head = self.forward.states_and_head(
            self.policy,
            [row.prompt_ids for row in rows],
            [row.completion_ids for row in rows],
            [row.loss_positions() for row in rows],
        )
        if self.settings.engine == "fused":
            return fused_loss_and_statistics(hidden, head, batch, objective, teacher, base)
        logits = [s.logits() if isinstance(s, HiddenSignal) else s for s in (teacher, base)]
        return loss_and_statistics(head(hidden), batch, objective, *logits)

    def _store_old_logprobs(self, rows: Sequence[Row], logprobs: Sequence[tuple[list[Row], Tensor]]) -> None:
        """Store the first step's log-probabilities as the rows' `old_logprobs`, on every process.

        The next step may deal the same rows to other processes.
        """
        for own_rows, values in logprobs:
            store_old_logprobs(own_rows, values)
        if self.world.size > 1:
            index_of = {id(row): i for i, row in enumerate(rows)}
            own = {index_of[id(row)]: row.old_logprobs for own_rows, _ in logprobs for row in own_rows}
            for by_index in self.world.gather(own):
                for index, old_logprobs in by_index.items():
                    rows[index].old_logprobs = old_logprobs

    def _clipped_norm(self) -> float:
        """Clip the gradient, and return its norm before that."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.max_grad_norm)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)  # of all shards

    def _move(self, rate: float) -> None:
        """Move the student's weights, and then a teacher that follows every optimizer step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.teacher is not None:
            self.teacher.after_optimizer_step()

    def forget(self) -> None:
        """Drop the signals that are kept for further steps on a rollout batch."""
        self.signals.forget()

    def state(self, rows: Sequence[Row] = ()) -> dict[str, Tensor]:
        """The optimizer's tensors by `KEY.PARAMETER`, and the signals that are kept for further steps on `rows`."""
        tensors = {
            f"{key}.{name}": torch.as_tensor(value)
            for name, parameter in self.parameters.items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }
        return tensors | self.signals.state(rows)

    def load_state(self, tensors: Mapping[str, Tensor], rows: Sequence[Row] = ()) -> None:
        """Restore what `state` returned for the same rows."""
        for name, parameter in self.parameters.items():
            suffix = f".{name}"
            own = {key[: -len(suffix)]: value for key, value in tensors.items() if key.endswith(suffix)}
            # One parameter's name may end another's; the rest of the key is the optimizer's and has no dot.
            own = {key: value.clone() for key, value in own.items() if "." not in key}
            if own:
                self.optimizer.state[parameter] = own
        self.signals.load_state(tensors, rows)
