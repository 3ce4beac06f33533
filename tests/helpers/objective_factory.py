"""Rows with random logits of three models, or with hidden states and output heads, for tests of the loss."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from holdfast.data.example import Example, Message
from holdfast.data.rows import Row
from holdfast.objective.batch import Batch, row_coefficients
from holdfast.objective.fused.loss import fused_loss_and_statistics
from holdfast.objective.head import TensorHead
from holdfast.objective.loss import loss_and_statistics
from holdfast.objective.signals import HiddenSignal, Signal
from holdfast.recipes.parts.objective import Objective

VOCABULARY = 7
MAX_LENGTH = 9
EXAMPLE = Example("e", (Message(role="user", content="?"),))


@dataclass
class Step:
    """Rows of one optimizer step with the logits that three models give on their completions [length, V]."""

    rows: list[Row]
    student: list[Tensor]
    teacher: list[Tensor]
    base: list[Tensor]

    def loss(
        self, objective: Objective, parts: Sequence[Sequence[int]] | None = None
    ) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """The step's loss with its rows cut into these micro-batches; one with all of them by default."""
        coefficients = row_coefficients(self.rows, objective, MAX_LENGTH)
        losses, statistics = [], []
        for part in parts if parts is not None else [range(len(self.rows))]:
            batch = Batch.from_rows([self.rows[i] for i in part], [coefficients[i] for i in part])
            loss, numbers = loss_and_statistics(
                self._flat(self.student, part),
                batch,
                objective,
                self._flat(self.teacher, part),
                self._flat(self.base, part),
            )
            losses.append(loss)
            statistics.append(numbers)
        return torch.stack(losses).sum(), statistics

    def gradients(self, objective: Objective, parts: Sequence[Sequence[int]] | None = None) -> list[Tensor]:
        leaves = [logits.detach().clone().requires_grad_() for logits in self.student]
        loss, _ = replace(self, student=leaves).loss(objective, parts)
        loss.backward()
        return [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in leaves]

    def _flat(self, logits: list[Tensor], part: Sequence[int]) -> Tensor:
        return torch.cat([logits[i][list(self.rows[i].loss_positions())] for i in part])


def make_step(lengths: Sequence[int], seed: int = 0, sampled: bool = True, skip: int = 0, **annotation: Any) -> Step:
    """Random rows; each annotation is a value for every row or a list with one for each."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, length in enumerate(lengths):
        values = {k: v[i] if isinstance(v, list | tuple) else v for k, v in annotation.items()}
        rows.append(
            Row(
                example=EXAMPLE,
                prompt_ids=[0],
                completion_ids=rng.integers(0, VOCABULARY, length).tolist(),
                sampled_logprobs=(-rng.uniform(0.5, 3.5, length)).tolist() if sampled else None,
                skip_tokens=skip,
                **values,
            )
        )

    def logits() -> list[Tensor]:
        return [torch.from_numpy(rng.normal(0, 1.5, (length, VOCABULARY))) for length in lengths]

    return Step(rows, logits(), logits(), logits())


class Outcome(NamedTuple):
    loss: Tensor
    gradients: dict[str, Tensor]
    """Of hidden states, weight and bias, as far as there are any."""
    statistics: dict[str, Tensor]


@dataclass(frozen=True)
class HeadStep:
    """Hidden states of three models, student, teacher and base, at a batch's loss tokens, and their output heads."""

    batch: Batch
    hidden: list[Tensor]
    heads: list[TensorHead]
    frozen: bool = False
    """The student's head."""

    @property
    def signals(self) -> tuple[HiddenSignal, HiddenSignal]:
        return HiddenSignal(self.hidden[1], self.heads[1]), HiddenSignal(self.hidden[2], self.heads[2])

    def readable(self, objective: Objective, teacher: Signal | None = None) -> Outcome:
        said = [s.logits() if isinstance(s, HiddenSignal) else s for s in (teacher or self.signals[0], self.signals[1])]
        hidden, head = self._student()
        loss, statistics = loss_and_statistics(head(hidden), self.batch, objective, *said)
        return self._outcome(hidden, head, loss, statistics)

    def fused(self, objective: Objective, teacher: Signal | None = None, chunk_tokens: int | None = None) -> Outcome:
        hidden, head = self._student()
        signals = (teacher or self.signals[0], self.signals[1])
        loss, statistics = fused_loss_and_statistics(
            hidden, head, self.batch, objective, *signals, chunk_tokens=chunk_tokens
        )
        return self._outcome(hidden, head, loss, statistics)

    def _student(self) -> tuple[Tensor, TensorHead]:
        """Fresh leaves."""
        grown = TensorHead.like(self.heads[0], lambda t: t.detach().clone().requires_grad_(not self.frozen))
        return self.hidden[0].detach().clone().requires_grad_(), grown

    def _outcome(self, hidden: Tensor, head: TensorHead, loss: Tensor, statistics: dict[str, Tensor]) -> Outcome:
        loss.backward()
        leaves = {"hidden": hidden, "weight": head.weight, "bias": head.bias}
        gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf is not None and leaf.grad is not None}
        return Outcome(loss.detach(), gradients, statistics)


def make_head_step(
    lengths: Sequence[int],
    *,
    seed: int = 0,
    vocabulary: int = 40,
    width: int = 5,
    dtype: torch.dtype = torch.float64,
    bias: bool = True,
    scale: float = 1.0,
    softcap: float | None = None,
    shared_head: bool = False,
    frozen: bool = False,
    stale: bool = False,
    weighed: bool = False,
    foreign: bool = False,
    **annotation: Any,
) -> HeadStep:
    """Random rows as of `make_step`, seen through output heads.

    Args:
        shared_head: all three models have the student's head, as under LoRA.
        stale: with log-probabilities of the rollout batch's start.
        weighed: with random token weights.
        foreign: every other row is somebody else's.
    """
    rng = np.random.default_rng(seed)
    rows = make_step(lengths, seed, **annotation).rows
    for number, row in enumerate(rows):
        count = len(row.completion_ids)
        row.completion_ids = rng.integers(0, vocabulary, count).tolist()
        row.old_logprobs = (-rng.uniform(1.5, 4.5, count)).tolist() if stale else None
        if foreign and number % 2 == 0:
            row.sampled_logprobs, row.source_logprobs = None, (-rng.uniform(1.5, 4.5, count)).tolist()
        row.token_weights = rng.choice([0.0, 0.5, 1.0, 2.0], count).tolist() if weighed else None
    batch = Batch.from_rows(rows, row_coefficients(rows, Objective(), MAX_LENGTH))

    def normal(*shape: int, spread: float = 1.0) -> Tensor:
        return torch.from_numpy(rng.normal(0, spread, shape)).to(dtype)

    heads = [
        TensorHead(normal(vocabulary, width, spread=0.8), normal(vocabulary) if bias else None, scale, softcap)
        for _ in range(3)
    ]
    hidden = [normal(len(batch.ids), width) for _ in range(3)]
    return HeadStep(batch, hidden, [heads[0]] * 3 if shared_head else heads, frozen)
