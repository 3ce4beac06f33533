"""Batch."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from holdfast.data.rows import Row
from holdfast.recipes.parts.objective import Objective


def row_coefficients(rows: Sequence[Row], objective: Objective, max_completion_length: int) -> list[float]:
    """What one loss token of each row weighs, over all rows of one optimizer step, those without signal included.

        sequence_mean   1 / (rows · loss tokens of the row)
        token_mean      1 / (loss tokens of all rows)
        constant        1 / (rows · max_completion_length)

    Rows that carry no signal count among `rows` and their tokens if the objective says `count_silent_rows`; excluded
    rows never do.
    A row without loss tokens weighs 0, and counts like any other silent row.
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
    """The loss tokens of one micro-batch, flat [N], in the order of its rows; every row whole."""

    rows: int
    ids: Tensor
    """The completion's tokens."""
    row_index: Tensor
    """Which row of the micro-batch each token belongs to."""
    coef: Tensor
    """What the token's loss counts for: its row's coefficient times its own weight."""
    ce: Tensor
    div: Tensor
    advantage: Tensor
    base_kl: Tensor
    sampled_logprobs: Tensor
    """As the sampler gave them; NaN where nothing was sampled."""
    old_logprobs: Tensor
    """From the training forward at the start of the rollout batch; NaN where this is that forward."""
    source_logprobs: Tensor
    """As who wrote the completion gave them, where that is not the student with this prompt; NaN where it is."""
    teacher_logprobs: Tensor
    """Of the completion's tokens, for weights and advantages that follow from them; NaN where no teacher was asked."""
    teacher_confidence: Tensor
    """How sure the teacher is, for weights that follow from it; NaN where no teacher was asked."""

    @classmethod
    def from_rows(cls, rows: Sequence[Row], coefficients: Sequence[float], device: torch.device | str = "cpu") -> Self:
        """Lay rows out flat. `coefficients`: those of these rows, from `row_coefficients` over the whole step."""
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
        )

    def told(self, teacher_logprobs: Tensor, objective: Objective) -> Self:
        """The batch with the teacher's log-probabilities [N] of its tokens, where its rows ask for them."""
        asked = self.asks_teacher(objective)
        return replace(self, teacher_logprobs=torch.where(asked, teacher_logprobs.detach(), math.nan))

    def confided(self, confidence: Tensor) -> Self:
        """The batch with how sure the teacher is [N], where a divergence from it counts."""
        return replace(self, teacher_confidence=torch.where(self.div != 0, confidence.detach(), math.nan))

    def asks_teacher(self, objective: Objective) -> Tensor:
        """Where [N] weights or advantages follow from the teacher's probabilities of the sampled tokens."""
        by_weight = objective.asks_teacher(ce=1.0, div=0.0, advantage=0.0)
        by_advantage = objective.asks_teacher(ce=0.0, div=0.0, advantage=1.0)
        return (by_weight & (self.ce != 0)) | (by_advantage & (self.advantage != 0))

    def select(self, tokens: slice | Tensor) -> Self:
        """The batch of some of the tokens; row indices stay as they are."""
        parts = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "rows"}
        return type(self)(rows=self.rows, **{name: part[tokens] for name, part in parts.items()})


def _on_loss_tokens(row: Row, values: list[float] | None, missing: float) -> list[float]:
    if values is None:
        return [missing] * len(row.loss_positions())
    if len(values) != len(row.completion_ids):
        raise ValueError(f"{len(values)} log-probabilities or weights for {len(row.completion_ids)} completion tokens")
    return [values[t] for t in row.loss_positions()]


def remember_logprobs(rows: Sequence[Row], logprobs: Tensor) -> None:
    """Keep a first iteration's log-probabilities, flat over these rows' loss tokens, as their `old_logprobs`."""
    values = iter(logprobs.tolist())
    for row in rows:
        row.old_logprobs = [math.nan] * len(row.completion_ids)
        for position in row.loss_positions():
            row.old_logprobs[position] = next(values)
