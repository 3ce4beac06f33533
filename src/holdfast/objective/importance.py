"""Factors that a token's loss is multiplied by: correction for who drew it, and weights from its probabilities."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from holdfast.objective.divergence import entropy
from holdfast.objective.surrogate import ratio, row_mean
from holdfast.recipes.parts.objective import Objective

if TYPE_CHECKING:
    from holdfast.objective.batch import Batch


@dataclass(frozen=True, slots=True)
class Importance:
    """Detached factors [N], and what the log says about them."""

    full: Tensor
    """Of the losses on student's tokens that have no ratio of their own."""
    sampler: Tensor
    """Of the policy gradient, whose own ratio accounts for the steps since the rollout."""
    statistics: dict[str, Tensor]


def importance_of(logprobs: Tensor, batch: "Batch", objective: Objective) -> Importance:
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
    of_sampled = torch.where(sampled, mismatch, 0.0)
    statistics = {
        "sampled_tokens": sampled.sum(),
        "is_ratio_sum": of_sampled.sum(),
        "is_ratio_max": torch.cat((mismatch.new_zeros(1), of_sampled)).amax(),
        "is_capped": (of_sampled > cap).sum(),
    }
    return Importance(sampler * stale, sampler, statistics)


def confidence(log_probs: Tensor, top_k: int) -> Tensor:
    """1 − H/log K of distributions [N, V] on their own K most likely entries, renormalized: 1 where all lies on one."""
    most = min(top_k, log_probs.shape[-1])
    kept = log_probs.topk(most, dim=-1).values.log_softmax(-1)
    return 1 - entropy(kept) / math.log(most)


def safety_weights(logprobs: Tensor, batch: "Batch", objective: Objective) -> Tensor | float:
    """What a divergence counts for at every token [N], see `SafetyWeight`.

    Args:
        logprobs: [N], detached.
    """
    spec = objective.safety_weight
    if spec is None:
        return 1.0
    weights = torch.ones_like(logprobs)
    if spec.by_teacher:
        weights = torch.where(batch.teacher_confidence.isnan(), weights, batch.teacher_confidence.to(weights.dtype))
    return weights * -torch.expm1(logprobs) if spec.by_student else weights


def token_weights(logprobs: Tensor, batch: "Batch", objective: Objective) -> Tensor | float:
    """What cross-entropy counts for at every token [N], see `TokenWeight`.

    Args:
        logprobs: [N], detached. All tokens of a row must be there where weights are normalized.
    """
    spec = objective.token_weight
    if spec is None:
        return 1.0
    said = torch.where(batch.teacher_logprobs.isnan(), logprobs, batch.teacher_logprobs)
    weights = torch.lerp(logprobs, said.to(logprobs.dtype), spec.teacher_share).exp()
    if spec.rising_only:
        weights = torch.where(said > logprobs, weights, 0.0)
    if spec.normalized:
        mean = row_mean(weights, batch.row_index, batch.rows)
        weights = torch.where(mean > 0, weights / mean, 0.0)
    return weights
