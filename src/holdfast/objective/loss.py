"""One loss for every recipe: what its rows are annotated with, weighed, corrected and reduced; the readable form.

    L = Σ_t coef_t · { is_t · [ce_t·CE_t + div_t·D_t] + is'_t·PG_t + reference_kl·base_kl_t·KL_t(student‖base) }

The sum runs over loss tokens, flat and without padding. `coef` holds the whole reduction and is worked out once over an
optimiser step's rows, so that losses and gradients of micro-batches add up to the step's, however they are cut.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from holdfast.objective.divergence import kl, log_prob_divergence, log_softmax, token_logprobs
from holdfast.objective.spec import Objective
from holdfast.objective.surrogate import policy_gradient_loss, ratio, reference_kl, row_mean
from holdfast.rollouts.rows import Row


def row_coefficients(rows: Sequence[Row], objective: Objective, max_completion_length: int) -> list[float]:
    """What one loss token of each row weighs, over all rows of one optimiser step, those without signal included.

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
    ce: Tensor
    div: Tensor
    advantage: Tensor
    base_kl: Tensor
    sampled_logprobs: Tensor
    """As the sampler gave them; NaN where nothing was sampled."""
    old_logprobs: Tensor
    """From the training forward at the start of the rollout batch; NaN where this is that forward."""

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
            coef=spread(coefficients),
            ce=spread(row.ce for row in rows),
            div=spread(row.div for row in rows),
            advantage=spread(row.advantage for row in rows),
            base_kl=spread(row.base_kl for row in rows),
            sampled_logprobs=gather(_on_loss_tokens(row, row.sampled_logprobs) for row in rows),
            old_logprobs=gather(_on_loss_tokens(row, row.old_logprobs) for row in rows),
        )


def _on_loss_tokens(row: Row, logprobs: list[float] | None) -> list[float]:
    if logprobs is None:
        return [math.nan] * len(row.loss_positions())
    if len(logprobs) != len(row.completion_ids):
        raise ValueError(f"{len(logprobs)} log-probabilities for {len(row.completion_ids)} completion tokens")
    return [logprobs[t] for t in row.loss_positions()]


def remember_logprobs(rows: Sequence[Row], logprobs: Tensor) -> None:
    """Keep a first iteration's log-probabilities, flat over these rows' loss tokens, as their `old_logprobs`."""
    values = iter(logprobs.tolist())
    for row in rows:
        positions = row.loss_positions()
        row.old_logprobs = [math.nan] * positions.start + [next(values) for _ in positions]


@dataclass(frozen=True, slots=True)
class _Importance:
    """Detached factors [N], and what the log says about them."""

    full: Tensor
    """Of the losses on student's tokens that have no ratio of their own."""
    sampler: Tensor
    """Of the policy gradient, whose own ratio accounts for the steps since the rollout."""
    statistics: dict[str, Tensor]


def _importance(logprobs: Tensor, batch: Batch, objective: Objective) -> _Importance:
    """Correct for tokens that were drawn from a distribution other than the student's now; the one place for it.

    Two factors, each capped from above only: trainer against sampler at the time of the rollout, per token (SDPO) or
    its mean over the row (SDFT); and the student now against then, which is 1 in a rollout batch's first step.
    Tokens that nobody sampled have the factor 1.
    """
    sampled = ~batch.sampled_logprobs.isnan()
    old = torch.where(batch.old_logprobs.isnan(), logprobs, batch.old_logprobs)
    mismatch = torch.where(sampled, ratio(old, batch.sampled_logprobs), 1.0)
    ones, cap = torch.ones_like(mismatch), objective.importance_cap
    sampler = ones if objective.importance == "none" else mismatch.clamp(max=cap)
    if objective.importance == "sequence_mean":
        sampler = row_mean(sampler, batch.row_index, batch.rows)
    stale = ones if objective.importance == "none" else torch.where(sampled, ratio(logprobs, old).clamp(max=cap), 1.0)
    of_sampled = mismatch[sampled]
    statistics = {
        "sampled_tokens": sampled.sum(),
        "is_ratio_sum": of_sampled.sum(),
        "is_ratio_max": torch.cat((mismatch.new_zeros(1), of_sampled)).amax(),
        "is_capped": (of_sampled > cap).sum(),
    }
    return _Importance(sampler * stale, sampler, statistics)


def loss_and_statistics(
    student_logits: Tensor,
    batch: Batch,
    objective: Objective,
    teacher_logits: Tensor | None = None,
    base_logits: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one micro-batch and what the log says about it.

    Args:
        student_logits: [N, V] as the model gives them (the temperature is applied here, to all three alike).
        teacher_logits: [N, V]; needed where any `div` is not 0; only read at such tokens.
        base_logits: [N, V]; needed where the objective has a `reference_kl` and any `base_kl` is not 0.

    Returns:
        The loss, a scalar in at least fp32, to be added up over a step's micro-batches; and detached statistics for
        `summarise`, among them `logprobs` [N], the sampled tokens' log-probabilities, for `remember_logprobs`.

    Raises:
        ValueError: rows are annotated for a component that the objective or the caller has not provided.
    """
    log_probs = log_softmax(student_logits, objective.temperature)
    logprobs = token_logprobs(log_probs, batch.ids)
    importance = _importance(logprobs.detach(), batch, objective)
    token_loss = importance.full * batch.ce * -logprobs
    statistics = {
        "tokens": torch.tensor(len(batch.ids)),
        "entropy_sum": _entropy(log_probs.detach()).sum(),
        "logprobs": logprobs.detach(),
        **importance.statistics,
    }

    taught = batch.div.nonzero().squeeze(-1)
    if len(taught):
        if teacher_logits is None:
            raise ValueError("rows have a divergence to count, but there are no teacher logits")
        every = len(taught) == len(batch.ids)
        teacher_logits = teacher_logits.detach() if every else teacher_logits.detach()[taught]
        teacher = log_softmax(teacher_logits, objective.temperature)
        student = log_probs if every else log_probs[taught]
        divergence = log_prob_divergence(student, teacher, objective, batch.ids[taught])
        token_loss = token_loss.index_add(0, taught, (importance.full * batch.div)[taught] * divergence)
        statistics |= {
            "teacher_tokens": torch.tensor(len(taught)),
            "teacher_kl_sum": kl(student.detach(), teacher).sum(),
            "teacher_entropy_sum": _entropy(teacher).sum(),
        }

    advised = batch.advantage != 0
    if advised.any():
        if objective.policy_gradient is None:
            raise ValueError("rows have an advantage, but the objective has no policy gradient")
        old = torch.where(batch.old_logprobs.isnan(), logprobs.detach(), batch.old_logprobs)
        surrogate, held = policy_gradient_loss(
            logprobs, old, batch.advantage, batch.row_index, batch.rows, objective.policy_gradient
        )
        token_loss = token_loss + importance.sampler * surrogate
        statistics |= {"advised_tokens": advised.sum(), "clipped": held.sum()}

    anchored = batch.base_kl != 0
    if objective.reference_kl and anchored.any():
        if base_logits is None:
            raise ValueError("rows have a KL to the base to count, but there are no base logits")
        base = token_logprobs(log_softmax(base_logits.detach(), objective.temperature), batch.ids)
        estimate = reference_kl(logprobs, base)
        token_loss = token_loss + objective.reference_kl * batch.base_kl * estimate
        statistics |= {"anchored_tokens": anchored.sum(), "base_kl_sum": estimate.detach()[anchored].sum()}

    return (batch.coef * token_loss).sum(), statistics


def _entropy(log_probs: Tensor) -> Tensor:
    return -(log_probs.exp() * log_probs).sum(-1)


def summarise(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, float | None]:
    """The statistics of a step's micro-batches as the numbers of its log line; None where there is nothing to average.

    `kl_teacher` is the full-vocabulary KL(student‖teacher) whatever the divergence trained on, and `is_ratio_*` are
    trainer against sampler before capping, so that recipes can be compared. Nats, per token.
    """

    def total(key: str) -> float:
        return float(sum(part[key].item() for part in parts if key in part))

    def mean(key: str, count: str) -> float | None:
        return total(key) / total(count) if total(count) else None

    return {
        "trained_tokens": int(total("tokens")),
        "entropy": mean("entropy_sum", "tokens"),
        "kl_teacher": mean("teacher_kl_sum", "teacher_tokens"),
        "teacher_entropy": mean("teacher_entropy_sum", "teacher_tokens"),
        "is_ratio_mean": mean("is_ratio_sum", "sampled_tokens"),
        "is_ratio_max": max((part["is_ratio_max"].item() for part in parts), default=0.0) or None,
        "is_capped_fraction": mean("is_capped", "sampled_tokens"),
        "clip_fraction": mean("clipped", "advised_tokens"),
        "kl_base_estimate": mean("base_kl_sum", "anchored_tokens"),
    }
