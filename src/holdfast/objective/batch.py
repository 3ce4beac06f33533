"""The loss tokens of a micro-batch, laid out flat, and what each of them counts for.

Rows have different lengths. The loss sums over tokens, so they are laid out one after the other, without padding.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from holdfast.data.rows import Row
from holdfast.recipes.parts.objective import Objective


def row_coefficients(rows: Sequence[Row], objective: Objective, max_completion_length: int) -> list[float]:
    """The weight of one loss token of each row, by the objective's `aggregation`.

        sequence_mean   1 / (rows · loss tokens of the row)
        token_mean      1 / (loss tokens of all rows)
        constant        1 / (rows · max_completion_length)

    A row without a signal, or without loss tokens, counts in these denominators if the objective sets
    `count_silent_rows`. An excluded row never counts.

    Args:
        rows: all rows of one optimizer step, those without a signal included. Micro-batches use these weights, so their
            losses add up to the step's however the rows are split.
    """
    tokens = [len(row.loss_positions()) for row in rows]
    counted = [
        n
        for n, row in zip(tokens, rows, strict=True)
        if not row.excluded and (objective.count_silent_rows or row.has_signal)
    ]
    if objective.aggregation == "sequence_mean":
        scales = [len(counted) * n for n in tokens]
    elif objective.aggregation == "token_mean":
        scales = [sum(counted)] * len(rows)
    else:
        scales = [len(counted) * max_completion_length] * len(rows)
    return [1 / scale if n and scale else 0.0 for n, scale in zip(tokens, scales, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The N loss tokens of one micro-batch. Tensors are [N], in the order of its rows; every row is whole."""

    rows: int
    ids: Tensor
    """int64, the completion's tokens."""
    row_index: Tensor
    """Which row of the micro-batch each token belongs to."""
    coef: Tensor
    """The weight of the token's loss: the row's coefficient from `row_coefficients`, times the token's own weight."""
    ce: Tensor
    """The row's weight of cross-entropy."""
    div: Tensor
    """The row's weight of the divergence from the teacher."""
    advantage: Tensor
    """The row's advantage in the policy gradient."""
    base_kl: Tensor
    """The row's weight of the KL to the base."""
    sampled_logprobs: Tensor
    """Log-probabilities that the sampler computed when it drew the tokens. NaN if they were not sampled."""
    old_logprobs: Tensor
    """Log-probabilities from the training forward at the start of the rollout batch. NaN in that forward itself."""
    source_logprobs: Tensor
    """Log-probabilities under which the completion was written by another model or from another prompt. NaN if the
    student wrote it from this prompt."""
    teacher_logprobs: Tensor
    """The teacher's log-probabilities of the tokens, if weights or advantages depend on them. NaN without a teacher."""
    teacher_confidence: Tensor
    """See `holdfast.objective.importance.confidence`, if weights depend on it. NaN without a teacher."""
    student_entropy: Tensor
    """The student's entropy over its most likely entries, if weights depend on it; NaN until it is known."""

    @classmethod
    def from_rows(cls, rows: Sequence[Row], coefficients: Sequence[float], device: torch.device | str = "cpu") -> Self:
        """Lay rows out flat.

        Args:
            coefficients: of these rows, from `row_coefficients` over the whole step.
        """
        lengths = torch.tensor([len(row.loss_positions()) for row in rows], dtype=torch.long)

        def spread(values: Iterable[float]) -> Tensor:
            return torch.tensor(list(values), dtype=torch.float32).repeat_interleave(lengths).to(device)

        def gather(values: Iterable[list[float]]) -> Tensor:
            return torch.tensor([v for row in values for v in row], dtype=torch.float32, device=device)

        return cls(
            rows=len(rows),
            ids=torch.tensor(
                [row.completion_ids[t] for row in rows for t in row.loss_positions()], device=device
            ).long(),
            row_index=torch.arange(len(rows)).repeat_interleave(lengths).to(device),
            coef=spread(coefficients) * gather(_on_loss_tokens(row, row.token_weights, 1.0) for row in rows),
            ce=spread(row.ce for row in rows),
            div=spread(row.div for row in rows),
            advantage=spread(row.advantage for row in rows),
            base_kl=spread(row.base_kl for row in rows),
            sampled_logprobs=gather(_on_loss_tokens(row, row.sampled_logprobs, math.nan) for row in rows),
            old_logprobs=gather(_on_loss_tokens(row, row.old_logprobs, math.nan) for row in rows),
            source_logprobs=gather(_on_loss_tokens(row, row.source_logprobs, math.nan) for row in rows),
            teacher_logprobs=torch.full((int(lengths.sum()),), math.nan, device=device),
            teacher_confidence=torch.full((int(lengths.sum()),), math.nan, device=device),
            student_entropy=torch.full((int(lengths.sum()),), math.nan, device=device),
        )

    def with_teacher_logprobs(self, teacher_logprobs: Tensor, objective: Objective) -> Self:
        """The batch with the teacher's log-probabilities [N] of its tokens; NaN for rows that do not use them."""
        used = self.uses_teacher_logprobs(objective)
        return replace(self, teacher_logprobs=torch.where(used, teacher_logprobs.detach(), math.nan))

    def with_teacher_confidence(self, confidence: Tensor) -> Self:
        """The batch with the teacher's confidence [N]; NaN for rows that have no divergence from it."""
        return replace(self, teacher_confidence=torch.where(self.div != 0, confidence.detach(), math.nan))

    def uses_teacher_logprobs(self, objective: Objective) -> Tensor:
        """[N], True if the token's weight or advantage depends on the teacher's probability of it."""
        by_weight = objective.asks_teacher(ce=1.0, div=0.0, advantage=0.0)
        by_advantage = objective.asks_teacher(ce=0.0, div=0.0, advantage=1.0)
        return (by_weight & (self.ce != 0)) | (by_advantage & (self.advantage != 0))

    def select(self, tokens: slice | Tensor) -> Self:
        """The batch of some of the tokens. Row indices do not change."""
        parts = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "rows"}
        return type(self)(rows=self.rows, **{name: part[tokens] for name, part in parts.items()})


def _on_loss_tokens(row: Row, values: list[float] | None, missing: float) -> list[float]:
    if values is None:
        return [missing] * len(row.loss_positions())
    if len(values) != len(row.completion_ids):
        raise ValueError(
            f"a row has {len(values)} log-probabilities or weights for {len(row.completion_ids)} completion tokens; "
            "it needs one for each"
        )
    return [values[t] for t in row.loss_positions()]


def store_old_logprobs(rows: Sequence[Row], logprobs: Tensor) -> None:
    """Store a rollout batch's first log-probabilities, flat over the rows' loss tokens, as the rows' `old_logprobs`."""
    values = iter(logprobs.tolist())
    for row in rows:
        row.old_logprobs = [math.nan] * len(row.completion_ids)
        for position in row.loss_positions():
            row.old_logprobs[position] = next(values)
