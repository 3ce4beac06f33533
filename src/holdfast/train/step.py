"""One optimiser step on annotated rows. The engine is blind to recipes: it executes what rows are annotated with."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from holdfast.config import TrainSettings
from holdfast.errors import RunError
from holdfast.objective.loss import Batch, loss_and_statistics, remember_logprobs, row_coefficients, summarise
from holdfast.objective.spec import Objective
from holdfast.rollouts.rows import Row
from holdfast.teachers import Base, Teacher
from holdfast.train.forward import loss_token_logits, micro_batches
from holdfast.train.policy import Policy


def learning_rate(settings: TrainSettings, step: int, steps: int) -> float:
    """The rate of optimiser step `step` (from 0) of a stage of `steps`: a linear warm-up, then the schedule."""
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    progress = min(1.0, max(0, step - settings.warmup_steps) / max(1, steps - settings.warmup_steps))
    factor = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    return settings.learning_rate * warm * factor[settings.lr_scheduler_type]


class StageTrainer:
    """The optimiser of one stage; a stage starts with a fresh one, as a new run would."""

    def __init__(
        self, policy: Policy, teacher: Teacher | None, base: Base | None, objective: Objective, settings: TrainSettings
    ) -> None:
        self.policy, self.teacher, self.base = policy, teacher, base
        self.objective, self.settings = objective, settings
        self.parameters = policy.named_trainable()
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=settings.learning_rate,
            betas=(settings.adam_beta1, settings.adam_beta2),
            weight_decay=settings.weight_decay,
        )

    def step(self, rows: Sequence[Row], rate: float, *, where: str, remember: bool = False) -> dict[str, Any]:
        """Take one optimiser step and return its numbers.

        Where no row carries a signal nothing moves: no momentum, no weight decay.

        Args:
            rows: all rows of the step, those without signal included: they may count in the reduction.
            rate: the learning rate.
            where: stage and step, for messages.
            remember: keep the log-probabilities of this forward as the rows' `old_logprobs`.

        Raises:
            RunError: loss or gradient is not finite; raised before the weights move.
        """
        coefficients = row_coefficients(rows, self.objective, self.settings.max_completion_length)
        coefficient_of = {id(row): c for row, c in zip(rows, coefficients, strict=True)}
        active = [row for row in rows if row.has_signal]
        numbers: dict[str, Any] = {"loss": 0.0, "grad_norm": 0.0, "learning_rate": rate}
        numbers |= {"rows": len(rows), "active_rows": len(active)}
        statistics: list[dict[str, Tensor]] = []
        for rows_of_batch in micro_batches(active, self.settings.micro_batch_tokens):
            batch = Batch.from_rows(rows_of_batch, [coefficient_of[id(r)] for r in rows_of_batch], self.policy.device)
            loss, stats = self._loss(rows_of_batch, batch)
            if not torch.isfinite(loss):
                raise RunError(f"the loss is {loss.item()}", where=where, mend="lower train.learning_rate")
            loss.backward()
            numbers["loss"] += loss.item()
            if remember:
                remember_logprobs(rows_of_batch, stats["logprobs"])
            statistics.append(stats)
        if active:
            numbers["grad_norm"] = self._move(rate, where)
        return numbers | summarise(statistics)

    def _loss(self, rows: list[Row], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        completions = [row.completion_ids for row in rows]
        positions = [row.loss_positions() for row in rows]
        prompts = [row.prompt_ids for row in rows]
        teacher_logits = base_logits = None
        if self.teacher is not None and any(row.div for row in rows):
            prompts_seen = [row.teacher_prompt_ids or row.prompt_ids for row in rows]
            with self.teacher.scoring() as teacher:
                teacher_logits = loss_token_logits(teacher, prompts_seen, completions, positions)
        if self.objective.reference_kl and any(row.base_kl for row in rows):
            assert self.base is not None
            with self.base.scoring() as base:
                base_logits = loss_token_logits(base, prompts, completions, positions)
        student_logits = loss_token_logits(self.policy, prompts, completions, positions)
        return loss_and_statistics(student_logits, batch, self.objective, teacher_logits, base_logits)

    def _move(self, rate: float, where: str) -> float:
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.max_grad_norm).item()
        if not math.isfinite(norm):
            self.optimizer.zero_grad(set_to_none=True)
            raise RunError(f"the gradient's norm is {norm}", where=where, mend="lower train.learning_rate")
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.teacher is not None:
            self.teacher.after_optimizer_step()
        return norm

    def state(self) -> dict[str, Tensor]:
        """The optimiser's tensors by `KEY.PARAMETER`, for a checkpoint."""
        return {
            f"{key}.{name}": torch.as_tensor(value)
            for name, parameter in self.parameters.items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            suffix = f".{name}"
            own = {key[: -len(suffix)]: value for key, value in tensors.items() if key.endswith(suffix)}
            own = {key: value.clone() for key, value in own.items() if "." not in key}
            if own:
                self.optimizer.state[parameter] = own
