"""Rows with random logits of three models, for tests of the loss."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.objective.loss import Batch, loss_and_statistics, row_coefficients
from holdfast.objective.spec import Objective
from holdfast.rollouts.rows import Row
from holdfast.tasks.base import Example, Message

VOCABULARY = 7
MAX_LENGTH = 9
EXAMPLE = Example("e", (Message(role="user", content="?"),))


@dataclass
class Step:
    """Rows of one optimiser step with the logits that three models give on their completions [length, V]."""

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
