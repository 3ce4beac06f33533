"""Factors that multiply a token's loss: importance ratios, and weights that depend on its probabilities."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from holdfast.objective.divergence import entropy, top_ids
from holdfast.objective.surrogate import ratio, row_mean
from holdfast.recipes.parts.objective import Objective

if TYPE_CHECKING:
    from holdfast.objective.batch import Batch


@dataclass(frozen=True, slots=True)
class Importance:
    """Detached factors [N] and their statistics."""

    full: Tensor
    """For cross-entropy and divergence: sampler against trainer, times the steps since the rollout."""
    sampler: Tensor
    """For the policy gradient: sampler against trainer. Its own ratio already covers the steps since the rollout."""
    statistics: dict[str, Tensor]


def importance_of(logprobs: Tensor, batch: "Batch", objective: Objective) -> Importance:
    """Correct for tokens that were sampled from another distribution than the student's present one.

    There are two factors, each capped from above only. The first is trainer against sampler at the time of the rollout,
    per token (SDPO) or as a mean over the row (SDFT). The second is the student now against then; it is 1 in a rollout
    batch's first step. Tokens that were not sampled have the factor 1.
    """
    sampled = ~batch.sampled_logprobs.isnan()
    old = torch.where(batch.old_logprobs.isnan(), logprobs, batch.old_logprobs)
    mismatch = torch.where(sampled, ratio(old, batch.sampled_logprobs), 1.0)
    ones, cap = torch.ones_like(mismatch), objective.importance_cap
    sampler = ones if objective.importance == "none" else mismatch.clamp(max=cap)
    if objective.importance == "sequence_mean":
        sampler = row_mean(sampler, batch.row_index, batch.rows)
    stale = ones if objective.importance == "none" else torch.where(sampled, ratio(logprobs, old).clamp(max=cap), 1.0)
    of_sampled = torch.where(sampled, mismatch, 0.0)
    statistics = {
        "sampled_tokens": sampled.sum(),
        "is_ratio_sum": of_sampled.sum(),
        "is_ratio_max": torch.cat((mismatch.new_zeros(1), of_sampled)).amax(),
        "is_capped": (of_sampled > cap).sum(),
    }
    return Importance(sampler * stale, sampler, statistics)


def top_entropy(log_probs: Tensor, top_k: int) -> Tensor:
    """[N], the entropy in nats of distributions [N, V], renormalized on their `top_k` most likely entries."""
    ids = top_ids(log_probs, min(top_k, log_probs.shape[-1]))
    return entropy(log_probs.gather(-1, ids).log_softmax(-1))


def confidence(log_probs: Tensor, top_k: int) -> Tensor:
    """[N], 1 − H/log K of distributions [N, V], renormalized on their K most likely entries; 1 if one entry has all."""
    return 1 - top_entropy(log_probs, top_k) / math.log(min(top_k, log_probs.shape[-1]))


def divergence_weights(logprobs: Tensor, batch: "Batch", objective: Objective) -> Tensor | float:
    """The weight [N] of each token's divergence, see `DivergenceWeight`; 1 without one.

    Args:
        logprobs: [N], detached.
    """
    spec = objective.divergence_weight
    if spec is None:
        return 1.0
    weights = torch.ones_like(logprobs)
    if spec.by_teacher:
        weights = torch.where(batch.teacher_confidence.isnan(), weights, batch.teacher_confidence.to(weights.dtype))
    return weights * -torch.expm1(logprobs) if spec.by_student else weights


def token_weights(logprobs: Tensor, batch: "Batch", objective: Objective) -> Tensor | float:
    """The weight [N] of each token's cross-entropy, see `TokenWeight` and `EntropyWeight`; 1 without either.

    Args:
        logprobs: [N], detached. If weights are normalized, all tokens of a row must be there.
    """
    weights: Tensor | float = 1.0
    if (spec := objective.token_weight) is not None:
        assert spec.tau != "median"  # `check_components` refuses it
        teacher = torch.where(batch.teacher_logprobs.isnan(), logprobs, batch.teacher_logprobs)
        mixed = torch.lerp(logprobs, teacher.to(logprobs.dtype), spec.teacher_share)
        weights = (mixed / spec.tau).exp().clamp(min=spec.least)
        if spec.rising_only:
            weights = torch.where(teacher > logprobs, weights, 0.0)
        if spec.normalized:
            mean = row_mean(weights, batch.row_index, batch.rows)
            weights = torch.where(mean > 0, weights / mean, 0.0)
    if (by_entropy := objective.entropy_weight) is not None:
        # Rounding can make the entropy of a certain student negative, and its power NaN.
        weights = weights * (batch.student_entropy.clamp(min=0) / by_entropy.scale) ** by_entropy.exponent
    return weights
