"""The teacher's and the base's signals at the loss tokens of a micro-batch: computed, or kept from an earlier step."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor

from holdfast.config.settings import TrainSettings
from holdfast.data.rows import Row
from holdfast.model import shard
from holdfast.model.base import Base
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.objective.head import Head, TensorHead
from holdfast.objective.signals import HiddenSignal, Signal, SignalSource, compress, mixed
from holdfast.recipes.parts.objective import Objective
from holdfast.train.forward_pass import ForwardPass
from holdfast.train.kept_signals import KeptSignals, of_tensors, tensors_of
from holdfast.train.teacher import Teacher

KEY_PREFIX = "kept:"
"""Of kept signals among the optimizer's tensors in a checkpoint."""


class SignalSources:
    """Teacher and base of one stage, as the objective reads them.

    A rollout batch may have several optimizer steps. The first step computes the signals of its rows and keeps them for
    the others, so a teacher that moves with every step does not move within a rollout batch.
    """

    def __init__(
        self,
        policy: Policy,
        teacher: Teacher | None,
        base: Base | None,
        objective: Objective,
        settings: TrainSettings,
        forward: ForwardPass,
    ) -> None:
        self.policy, self.teacher, self.objective, self.settings = policy, teacher, objective, settings
        self._base, self._forward, self._world = base, forward, Processes.current()
        self.kept: dict[SignalSource, KeptSignals] = {"teacher": KeptSignals(), "base": KeptSignals()}

    def forget(self) -> None:
        """Drop the signals that are kept for further steps on a rollout batch."""
        for kept in self.kept.values():
            kept.clear()

    @contextmanager
    def whole_heads(self) -> Iterator[None]:
        """Within it, the output heads of copies of the model are whole on every process.

        A step reads them for every micro-batch; gathering them each time would send the same weights again.
        """
        with ExitStack() as stack:
            for model in (self.teacher, self._base):
                if model is not None and model.copy is not None:
                    stack.enter_context(shard.head(model.copy))
            yield

    def of(
        self, rows: list[Row], step_rows: Sequence[Row], *, first: bool, keep: bool
    ) -> tuple[Signal | None, Signal | None]:
        """The teacher's and the base's signals, flat over the loss tokens of these rows; None if no row needs one.

        All processes call this for each of their micro-batches.

        Args:
            rows: of this process's micro-batch.
            step_rows: the optimizer step's rows with a signal, on all processes. If one needs a source, every process
                takes part in scoring with it.
            first: this is the first step on the rollout batch.
            keep: there are further steps on it.
        """
        teacher = base = None
        if self.teacher is not None and any(self._needs_teacher(row) for row in step_rows):
            needing = [row for row in rows if self._needs_teacher(row)]
            head_moves = not self.policy.is_lora and self.teacher.moves_within_batch
            teacher = self._of("teacher", rows, needing, first=first, keep=keep, head_moves=head_moves)
        if self._reference is not None and any(self._needs_base(row) for row in step_rows):
            needing = [row for row in rows if self._needs_base(row)]
            base = self._of("base", rows, needing, first=first, keep=keep)
        return teacher, base

    @property
    def _reference(self) -> Teacher | Base | None:
        """The model for the KL to the base: the base, or the teacher if the objective says so."""
        return self._base if self.objective.reference == "base" else self.teacher

    def _needs_teacher(self, row: Row) -> bool:
        return self.objective.asks_teacher(ce=row.ce, div=row.div, advantage=row.advantage)

    def _needs_base(self, row: Row) -> bool:
        anchored = self.objective.anchor == "base"
        return bool((self.objective.reference_kl and row.base_kl) or (anchored and row.div))

    def _of(
        self,
        source: SignalSource,
        rows: list[Row],
        needing: list[Row],
        *,
        first: bool,
        keep: bool,
        head_moves: bool = False,
    ) -> Signal | None:
        """The signal of a source for `rows`, of which `needing` read it."""
        kept = self.kept[source]
        missing = first or bool(needing and not kept.has(needing))
        # Sharded processes score together. So if one of them must score, all do; in a first step that is known.
        some_process_scores = missing if first else bool(self._world.highest(int(missing)))
        takes_part = bool(needing) or self._world.size > 1
        if not (some_process_scores and takes_part):
            return _over_all_rows(kept.of(needing), rows, needing) if needing else None
        scored = needing or rows  # a process without rows that need it scores any rows
        signal: Signal = self._scored(source, scored)
        if keep and self.settings.engine == "fused":
            ids = torch.tensor([row.completion_ids[t] for row in scored for t in row.loss_positions()])
            signal = self.policy.run(partial(compress, signal, ids.to(self.policy.device), self.objective, of=source))
        if keep and missing:
            kept.add(scored, signal, head_moves=head_moves)
        return _over_all_rows(kept.of(scored) if kept.has(scored) else signal, rows, scored)

    def _scored(self, source: SignalSource, rows: list[Row]) -> HiddenSignal:
        """Compute a source's signal, flat over the loss tokens of these rows."""
        model = self.teacher if source == "teacher" else self._reference
        assert model is not None
        prompts = [(source == "teacher" and row.teacher_prompt_ids) or row.prompt_ids for row in rows]
        completions, positions = [row.completion_ids for row in rows], [row.loss_positions() for row in rows]
        with model.scoring() as policy:
            score = partial(self._forward.states_and_head, policy, prompts, completions, positions)
            hidden, head = policy.run(score)
            signal = HiddenSignal(hidden, self._outlasting(head))
        if isinstance(model, Teacher) and model.spec.kind == "trust_region":
            # Its frozen part is scored; the student under the same prompt is the other part of the mix.
            with torch.no_grad():
                score = partial(self._forward.states_and_head, self.policy, prompts, completions, positions)
                student = HiddenSignal(*self.policy.run(score))
                return self.policy.run(partial(mixed, signal, student, model.spec.mix))
        return signal

    def _outlasting(self, head: Head) -> Head:
        """A head that can be read after `scoring` ends.

        With `offload_teacher`, a copy's parameters then point to host memory again. The tensors taken here keep the
        head's weights on the device until the step no longer needs them.
        """
        if self.settings.offload_teacher and self._world.size == 1:
            return TensorHead.like(head, lambda tensor: tensor.detach())
        return head

    def state(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """What a checkpoint must hold: the kept signals of the rollout batch's rows."""
        tensors: dict[str, Tensor] = {}
        for source, kept in self.kept.items():
            own = kept.state(rows, with_head=self._world.is_main)
            tensors |= {f"{KEY_PREFIX}{source}.{key}": value.cpu() for key, value in own.items()}
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor], rows: Sequence[Row]) -> None:
        """Restore what `state` returned for the same rows; other tensors are ignored."""
        device = self.policy.device
        for source, kept in self.kept.items():
            prefix = f"{KEY_PREFIX}{source}."
            own = {k.removeprefix(prefix): v.to(device) for k, v in tensors.items() if k.startswith(prefix)}
            model = self.teacher if source == "teacher" else self._reference
            if own and model is not None:
                with model.scoring() as policy:
                    head = policy.run(partial(self._forward.head, policy))
                    kept.load_state(rows, own, self._outlasting(head))


def _over_all_rows(signal: Signal, rows: list[Row], scored: list[Row]) -> Signal:
    """A signal of some rows, laid out over the loss tokens of all; zeros at the others, which nothing reads."""
    if len(scored) == len(rows):
        return signal
    is_scored = {id(row) for row in scored}
    mask = torch.cat([torch.full((len(row.loss_positions()),), id(row) in is_scored) for row in rows])
    laid_out = {}
    for name, part in tensors_of(signal).items():
        whole = part.new_zeros(len(mask), *part.shape[1:])
        whole[mask.to(part.device)] = part
        laid_out[name] = whole
    return of_tensors(laid_out, signal.head if isinstance(signal, HiddenSignal) else None)
