"""One optimizer step on annotated rows. The engine is blind to recipes: it executes what rows are annotated with."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from holdfast.config.settings import TrainSettings
from holdfast.data.rows import Row
from holdfast.errors import RunError
from holdfast.model import shard
from holdfast.model.base import Base
from holdfast.model.hidden_states import longest_packed, loss_token_states, padded_states
from holdfast.model.packing import micro_batches
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes, deal
from holdfast.objective.batch import Batch, row_coefficients, store_old_logprobs
from holdfast.objective.fused.loss import fused_loss_and_statistics
from holdfast.objective.head import Head, TensorHead
from holdfast.objective.loss import loss_and_statistics, summarize
from holdfast.objective.signals import HiddenSignal, Signal, compress, mixed
from holdfast.recipes.parts.objective import Objective
from holdfast.train.kept_signals import KeptSignals, of_tensors, tensors_of
from holdfast.train.penalty import Penalty
from holdfast.train.teacher import Teacher

SignalSource = Literal["teacher", "base"]

KEPT = "kept:"
"""Marks, in a checkpoint, what is kept for further steps on a rollout batch."""


def learning_rate(settings: TrainSettings, step: int, steps: int) -> float:
    """The rate of optimizer step `step` (from 0) of a stage of `steps`: a linear warm-up, then the schedule."""
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    progress = min(1.0, max(0, step - settings.warmup_steps) / max(1, steps - settings.warmup_steps))
    factor = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    return settings.learning_rate * warm * factor[settings.lr_scheduler_type]


class NotFiniteError(RunError):
    """Loss or gradient of a step is not finite; no weight has moved. `numbers` are the step's."""

    def __init__(self, what: str, where: str, numbers: dict[str, Any]) -> None:
        super().__init__(what, where=where, fix="lower train.learning_rate")
        self.numbers = {"grad_norm": None} | numbers


@dataclass(frozen=True)
class Part:
    """A micro-batch; `counts` is false for one that a process only computes to keep in step with the others."""

    rows: list[Row]
    counts: bool = True


class StageTrainer:
    """The optimizer of one stage; a stage starts with a fresh one, as a new run would.

    Args:
        penalty: a term of the loss on the weights themselves; in a step where no row has a signal it is left out too.
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
        """Called before every micro-batch; may raise to leave the step, which then has moved nothing."""
        self.parameters = policy.named_trainable()
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=settings.learning_rate,
            betas=(settings.adam_beta1, settings.adam_beta2),
            weight_decay=settings.weight_decay,
        )
        self.kept = {"teacher": KeptSignals(), "base": KeptSignals()}
        self._narrow: dict[int, Head] = {}

    def step(
        self, rows: Sequence[Row], rate: float, *, where: str, first: bool = True, more: bool = False
    ) -> dict[str, Any]:
        """Take one optimizer step and return its numbers.

        Where no row carries a signal nothing moves: no momentum, no weight decay.

        Args:
            rows: all rows of the step, those without signal included: they may count in the reduction.
            rate: the learning rate.
            where: stage and step, for messages.
            first: the first step on these rows.
            more: there are further steps on these rows. The first keeps for them its log-probabilities, as the rows'
                `old_logprobs`, and what teacher and base say.

        Raises:
            NotFiniteError: loss or gradient is not finite; raised before the weights move.
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
        """The step without the move: gradients are added to the parameters'. Arguments and errors as for `step`."""
        return self._pass(rows, where=where, first=first, more=more)

    def measure(self, rows: Sequence[Row], *, where: str) -> dict[str, Any]:
        """The numbers of a step on these rows that is not taken, without gradients; between rollout batches only.

        Raises:
            NotFiniteError: the loss is not finite.
        """
        with torch.no_grad():
            return self._pass(rows, where=where, first=True, more=False, backward=False)

    def _pass(
        self, rows: Sequence[Row], *, where: str, first: bool, more: bool, backward: bool = True
    ) -> dict[str, Any]:
        if first:
            self.forget()
        coefficients = row_coefficients(rows, self.objective, self.settings.max_completion_length)
        coefficient_of = {id(row): c for row, c in zip(rows, coefficients, strict=True)}
        active = [row for row in rows if row.has_signal]
        total = torch.zeros((), device=self.policy.device)
        statistics: list[dict[str, Tensor]] = []
        logprobs: list[tuple[list[Row], Tensor]] = []
        parts = self._parts(active)
        self._narrow.clear()
        with self._heads():
            for number, part in enumerate(parts):
                self.poll()
                weights = [coefficient_of[id(row)] if part.counts else 0.0 for row in part.rows]
                batch = Batch.from_rows(part.rows, weights, self.policy.device)
                signals = self._signals(part.rows, active, first=first, keep=more)
                loss, stats = self.policy.run(partial(self._loss, part.rows, batch, *signals))
                if backward:
                    self.policy.backward(loss, last=number + 1 == len(parts))
                if part.counts:
                    total += loss.detach()
                    logprobs.append((part.rows, stats.pop("logprobs")))
                    statistics.append(stats)
        gathered = self.world.gather((total.item(), [{k: v.cpu() for k, v in s.items()} for s in statistics]))
        loss_value = sum(value for value, _ in gathered)
        numbers: dict[str, Any] = {"loss": loss_value, "rows": len(rows), "active_rows": len(active)}
        numbers |= summarize([each for _, group in gathered for each in group])
        if self.penalty is not None and backward:
            numbers["penalty"] = self.penalty.add_gradient() if active else None
            numbers["loss"] = loss_value = loss_value + (numbers["penalty"] or 0.0)
        if not math.isfinite(loss_value):
            self.optimizer.zero_grad(set_to_none=True)
            raise NotFiniteError(f"the loss is {loss_value}", where, numbers)
        if first and more:
            self._remember(rows, logprobs)
        return numbers

    @contextmanager
    def _heads(self) -> Iterator[None]:
        """Within it, the output heads of teacher and base copies are whole on every process."""
        with ExitStack() as stack:
            for speaker in (self.teacher, self.base):
                if speaker is not None and speaker.copy is not None:
                    stack.enter_context(shard.head(speaker.copy))
            yield

    def forget(self) -> None:
        """Let go of what was kept for further steps on a rollout batch."""
        for kept in self.kept.values():
            kept.clear()

    def _parts(self, active: Sequence[Row]) -> list[Part]:
        """This process's micro-batches: as many as any other's, for their collective operations must match."""
        longest = 0 if self.settings.engine == "readable" else longest_packed(self.policy)
        budget = self.settings.micro_batch_tokens
        packed = [row for row in active if _length(row) <= longest]
        padded = [row for row in active if _length(row) > longest]
        if longest:
            self._tell_of_windows(padded, longest)
        batches = micro_batches(packed, budget) + micro_batches(padded, budget, padded=True)
        if self.world.size == 1 or not batches:
            return [Part(rows) for rows in batches]
        hands = deal([_tokens(rows) for rows in batches], self.world.size)
        mine = [Part(batches[i]) for i in hands[self.world.rank]]
        lacking = max(map(len, hands)) - len(mine)
        return [*mine, *[Part(min(batches, key=_tokens), counts=False)] * lacking]

    def _tell_of_windows(self, padded: Sequence[Row], longest: float) -> None:
        if padded and self.world.is_main:
            warnings.warn(
                f"{type(self.policy.causal_lm).__name__} has a window of {longest:g} tokens; longer rows are padded",
                stacklevel=2,
            )

    def _signals(
        self, rows: list[Row], active: Sequence[Row], *, first: bool, keep: bool
    ) -> tuple[Signal | None, Signal | None]:
        """What teacher and base say at the loss tokens of these rows; None where no row asks."""
        teacher = base = None
        if self.teacher is not None and any(self._asks_teacher(row) for row in active):
            head_moves = not self.policy.is_lora and self.teacher.moves_within_batch
            asking = [row for row in rows if self._asks_teacher(row)]
            teacher = self._signal("teacher", rows, asking, first=first, keep=keep, head_moves=head_moves)
        if self._reference is not None and any(self._asks_base(row) for row in active):
            asking = [row for row in rows if self._asks_base(row)]
            base = self._signal("base", rows, asking, first=first, keep=keep)
        return teacher, base

    @property
    def _reference(self) -> Teacher | Base | None:
        """Who stands for the base."""
        return self.base if self.objective.reference == "base" else self.teacher

    def _asks_teacher(self, row: Row) -> bool:
        return self.objective.asks_teacher(ce=row.ce, div=row.div, advantage=row.advantage)

    def _asks_base(self, row: Row) -> bool:
        anchored = self.objective.anchor == "base"
        return bool((self.objective.reference_kl and row.base_kl) or (anchored and row.div))

    def _signal(
        self,
        source: SignalSource,
        rows: list[Row],
        asking: list[Row],
        *,
        first: bool,
        keep: bool,
        head_moves: bool = False,
    ) -> Signal | None:
        kept = self.kept[source]
        lacks = first or bool(asking and not kept.hold(asking))
        # What one process lacks all must compute, for they share the weights; so let go of on one, so on all.
        if not (lacks if first else self.world.highest(int(lacks))) or (not asking and self.world.size == 1):
            return _spread(kept.of(asking), rows, asking) if asking else None
        asking = asking or rows  # another process scores now, and this one must take part
        signal: Signal = self._scored(source, asking)
        if keep and self.settings.engine == "fused":
            ids = torch.tensor([row.completion_ids[t] for row in asking for t in row.loss_positions()])
            signal = self.policy.run(partial(compress, signal, ids.to(self.policy.device), self.objective, of=source))
        if keep and lacks:
            kept.keep(asking, signal, head_moves=head_moves)
        return _spread(kept.of(asking) if kept.hold(asking) else signal, rows, asking)

    def _scored(self, source: SignalSource, rows: list[Row]) -> HiddenSignal:
        speaker = self.teacher if source == "teacher" else self._reference
        assert speaker is not None
        prompts = [(source == "teacher" and row.teacher_prompt_ids) or row.prompt_ids for row in rows]
        completions, positions = [row.completion_ids for row in rows], [row.loss_positions() for row in rows]
        signal = self._said(speaker, prompts, completions, positions)
        if isinstance(speaker, Teacher) and speaker.spec.kind == "trust_region":
            with torch.no_grad():
                live = self.policy.run(partial(self._states_and_head, self.policy, prompts, completions, positions))
                return self.policy.run(partial(mixed, signal, HiddenSignal(*live), speaker.spec.mix))
        return signal

    def _said(
        self, speaker: Teacher | Base, prompts: list[list[int]], completions: list[list[int]], positions: list[Any]
    ) -> HiddenSignal:
        with speaker.scoring() as policy:
            states_and_head = partial(self._states_and_head, policy, prompts, completions, positions)
            hidden, head = policy.run(states_and_head)
            return HiddenSignal(hidden, self._lasting(head))

    def _lasting(self, head: Head) -> Head:
        """A speaker's head to be read after `scoring`, at whose end a copy's own weights may leave the device."""
        if self.settings.offload_teacher and self.world.size == 1:
            return TensorHead.like(head, lambda tensor: tensor.detach())
        return head

    def _loss(
        self, rows: list[Row], batch: Batch, teacher: Signal | None, base: Signal | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        hidden, head = self._states_and_head(
            self.policy,
            [row.prompt_ids for row in rows],
            [row.completion_ids for row in rows],
            [row.loss_positions() for row in rows],
        )
        if self.settings.engine == "fused":
            return fused_loss_and_statistics(hidden, head, batch, self.objective, teacher, base)
        said = [s.head(s.hidden) if isinstance(s, HiddenSignal) else s for s in (teacher, base)]
        return loss_and_statistics(head(hidden), batch, self.objective, *said)

    def _states_and_head(
        self, policy: Policy, prompts: list[list[int]], completions: list[list[int]], positions: list[Sequence[int]]
    ) -> tuple[Tensor, Head]:
        """Hidden states [N, H] at the loss tokens and the head for them, both in the dtype of matrix products."""
        bf16 = self.settings.bf16
        with torch.autocast(policy.device.type, torch.bfloat16, enabled=bf16):
            states = loss_token_states if self.settings.engine == "fused" else padded_states
            hidden = states(policy, prompts, completions, positions)
        return (hidden.to(torch.bfloat16) if bf16 else hidden), self._head(policy)

    def _head(self, policy: Policy) -> Head:
        """A policy's output head in the dtype of matrix products; one that stands still is converted once per step."""
        if not self.settings.bf16:
            return policy.head
        if torch.is_grad_enabled() and policy.head.weight.requires_grad:
            return TensorHead.like(policy.head, lambda tensor: tensor.to(torch.bfloat16))
        key = id(policy.head.projection)
        if key not in self._narrow:
            self._narrow[key] = TensorHead.like(policy.head, lambda tensor: tensor.detach().to(torch.bfloat16))
        return self._narrow[key]

    def _remember(self, rows: Sequence[Row], logprobs: Sequence[tuple[list[Row], Tensor]]) -> None:
        """Keep a first iteration's log-probabilities as the rows' `old_logprobs`, on every process."""
        for part, values in logprobs:
            store_old_logprobs(part, values)
        if self.world.size > 1:
            place = {id(row): i for i, row in enumerate(rows)}
            own = {place[id(row)]: row.old_logprobs for part, _ in logprobs for row in part}
            for found in self.world.gather(own):
                for index, values_of_row in found.items():
                    rows[index].old_logprobs = values_of_row

    def _clipped_norm(self) -> float:
        """The gradient's norm before it was clipped."""
        return _norm(torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.max_grad_norm))

    def _move(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.teacher is not None:
            self.teacher.after_optimizer_step()

    def state(self, rows: Sequence[Row] = ()) -> dict[str, Tensor]:
        """The optimizer's tensors by `KEY.PARAMETER`, and what is kept for further steps on `rows`."""
        tensors = {
            f"{key}.{name}": torch.as_tensor(value)
            for name, parameter in self.parameters.items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }
        for source, kept in self.kept.items():
            own = kept.state(rows, with_head=self.world.is_main)
            tensors |= {f"{KEPT}{source}.{key}": value.cpu() for key, value in own.items()}
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor], rows: Sequence[Row] = ()) -> None:
        """Take back what `state` gave, for the same rows."""
        for name, parameter in self.parameters.items():
            suffix = f".{name}"
            own = {key[: -len(suffix)]: value for key, value in tensors.items() if key.endswith(suffix)}
            own = {key: value.clone() for key, value in own.items() if "." not in key}
            if own:
                self.optimizer.state[parameter] = own
        for source, kept in self.kept.items():
            prefix = f"{KEPT}{source}."
            device = self.policy.device
            found = {k.removeprefix(prefix): v.to(device) for k, v in tensors.items() if k.startswith(prefix)}
            speaker = self.teacher if source == "teacher" else self._reference
            if found and speaker is not None:
                with speaker.scoring() as policy:
                    kept.load_state(rows, found, self._lasting(policy.run(partial(self._head, policy))))


def _length(row: Row) -> int:
    """Tokens of the longest sequence that is computed for a row."""
    return max(len(row.prompt_ids), len(row.teacher_prompt_ids or ())) + len(row.completion_ids)


def _tokens(rows: Sequence[Row]) -> int:
    """What a micro-batch costs, for dealing them out evenly."""
    prompts = {tuple(ids) for row in rows for ids in (row.prompt_ids, row.teacher_prompt_ids) if ids}
    return sum(map(len, prompts)) + sum(len(row.completion_ids) for row in rows)


def _spread(signal: Signal, rows: list[Row], asking: list[Row]) -> Signal:
    """A signal of some rows, laid out over the loss tokens of all; zeros where nobody asked, and nobody reads."""
    if len(asking) == len(rows):
        return signal
    wanted = {id(row) for row in asking}
    mask = torch.cat([torch.full((len(row.loss_positions()),), id(row) in wanted) for row in rows])
    laid = {}
    for name, part in tensors_of(signal).items():
        whole = part.new_zeros(len(mask), *part.shape[1:])
        whole[mask.to(part.device)] = part
        laid[name] = whole
    return of_tensors(laid, signal.head if isinstance(signal, HiddenSignal) else None)


def _norm(norm: Tensor) -> float:
    """Of all shards where they are sharded."""
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
