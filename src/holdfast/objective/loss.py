"""One loss for every recipe: what its rows are annotated with, weighed, corrected and reduced; the readable form.

    L = Σ_t coef_t · { is_t · [ce_t·w_t·CE_t + div_t·v_t·D_t] + is'_t·PG_t + r·base_kl_t·KL_t(student, base) }

with r the objective's `reference_kl`. The sum runs over loss tokens, flat and without padding. `coef` holds the whole
reduction, worked out once over an optimizer step's rows so that losses and gradients of micro-batches add up to the
step's however they are cut, times the token's own weight; w and v are weights that follow from probabilities.

`holdfast.objective.fused.loss` computes the same from hidden states, without the logits of all tokens at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from holdfast.objective.batch import Batch
from holdfast.objective.divergence import (
    TokenDivergence,
    entropy,
    kl,
    log_prob_divergence,
    log_softmax,
    sampled_surrogate,
    support_divergence,
    token_logprobs,
    top_ids,
)
from holdfast.objective.importance import confidence, importance_of, safety_weights, token_weights
from holdfast.objective.signals import SparseSignal, Speaker, entries_read, read_on_support
from holdfast.objective.surrogate import (
    modulated_advantages,
    off_policy_terms,
    policy_gradient_loss,
    reference_kl,
    source_statistics,
    squared_log_ratio,
)
from holdfast.objective.targets import target_log_probs
from holdfast.recipes.parts.objective import Objective


@dataclass(frozen=True, slots=True)
class SampledTerms:
    """All of the objective that follows from the student's log-probabilities of the sampled tokens alone."""

    loss: Tensor
    """[N], cross-entropy and policy gradient, weighted; before `coef`."""
    div: Tensor
    """[N], detached: what a divergence at the token counts for; before `coef`."""
    statistics: dict[str, Tensor]


def sampled_terms(logprobs: Tensor, batch: Batch, objective: Objective) -> SampledTerms:
    """Cross-entropy, policy gradient and importance.

    Args:
        logprobs: [N], with gradient. All tokens of a row must be there where something is averaged over a row.
    """
    importance = importance_of(logprobs.detach(), batch, objective)
    loss = importance.full * batch.ce * token_weights(logprobs.detach(), batch, objective) * -logprobs
    statistics = {"tokens": torch.tensor(len(batch.ids)), "logprobs": logprobs.detach(), **importance.statistics}
    if objective.policy_gradient is not None:
        own = torch.where(batch.old_logprobs.isnan(), logprobs.detach(), batch.old_logprobs)
        said = torch.where(batch.teacher_logprobs.isnan(), own, batch.teacher_logprobs)
        advantages = modulated_advantages(batch.advantage, own, said, objective.policy_gradient)
        old, advantages = off_policy_terms(logprobs, own, batch.source_logprobs, advantages, objective.policy_gradient)
        surrogate, held = policy_gradient_loss(
            logprobs, old, advantages, batch.row_index, batch.rows, objective.policy_gradient
        )
        loss = loss + importance.sampler * surrogate
        statistics |= {"advised_tokens": (batch.advantage != 0).sum(), "clipped": held.sum()}
        statistics |= source_statistics(logprobs.detach(), batch.source_logprobs)
    div = importance.full * batch.div * safety_weights(logprobs.detach(), batch, objective)
    return SampledTerms(loss, div.detach(), statistics)


def reference_terms(
    logprobs: Tensor, base_logprobs: Tensor, batch: Batch, objective: Objective
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted k3 or k2 estimate [N] of KL(student‖base), and its statistics."""
    anchored = batch.base_kl != 0
    distance = squared_log_ratio if objective.reference_kl_form == "k2" else reference_kl
    # Where nobody asks the base, what stands there must not be read: 0 times NaN is NaN.
    estimate = distance(logprobs, torch.where(anchored, base_logprobs, logprobs.detach()))
    loss = objective.reference_kl * batch.base_kl * estimate
    return loss, {"anchored_tokens": anchored.sum(), "base_kl_sum": torch.where(anchored, estimate.detach(), 0.0).sum()}


def check_components(batch: Batch, objective: Objective, teacher: object, base: object) -> None:
    """Whether there is all that the batch's rows are annotated for.

    Args:
        teacher, base: what they say, in any form; or None.

    Raises:
        ValueError: rows have a component that the objective or the caller has not provided.
    """
    if batch.div.any() and teacher is None:
        raise ValueError("rows have a divergence to count, but there are no teacher logits")
    if teacher is None and bool(batch.asks_teacher(objective).any()):
        raise ValueError("rows are weighed by what a teacher says, but there are no teacher logits")
    if objective.policy_gradient is None and batch.advantage.any():
        raise ValueError("rows have an advantage, but the objective has no policy gradient")
    if objective.reference_kl and batch.base_kl.any() and base is None:
        raise ValueError("rows have a KL to the base to count, but there are no base logits")
    if objective.anchor == "base" and batch.div.any() and base is None:
        raise ValueError("the target is anchored to the base, but there are no base logits")
    said: list[tuple[object, Speaker]] = [(teacher, "teacher"), (base, "base")]
    for signal, of in said:
        if isinstance(signal, SparseSignal) and entries_read(objective, of) is None:
            raise ValueError(f"the objective reads all that the {of} says, but only some entries were kept")


def loss_and_statistics(
    student_logits: Tensor,
    batch: Batch,
    objective: Objective,
    teacher_logits: Tensor | SparseSignal | None = None,
    base_logits: Tensor | SparseSignal | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one micro-batch and what the log says about it.

    Args:
        student_logits: [N, V] as the model gives them (the temperature is applied here, to all three alike).
        teacher_logits: [N, V], or what was kept of them; needed where any `div` is not 0; only read at such tokens.
        base_logits: likewise; needed where the objective has a `reference_kl` and any `base_kl` is not 0, or where the
            base anchors the target.

    Returns:
        The loss, a scalar in at least fp32, to be added up over a step's micro-batches; and detached statistics for
        `summarize`, among them `logprobs` [N], the sampled tokens' log-probabilities, for `remember_logprobs`.

    Raises:
        ValueError: rows are annotated for a component that the objective or the caller has not provided.
    """
    check_components(batch, objective, teacher_logits, base_logits)
    log_probs = log_softmax(student_logits, objective.temperature)
    logprobs = token_logprobs(log_probs, batch.ids)
    if objective.reads_teacher_tokens and teacher_logits is not None:
        batch = batch.told(_sampled_logprobs(teacher_logits, batch.ids, objective.temperature), objective)
    if (
        objective.safety_weight is not None
        and objective.reads_teacher_confidence
        and isinstance(teacher_logits, Tensor)
    ):
        said = log_softmax(teacher_logits.detach(), objective.temperature)
        batch = batch.confided(confidence(said, objective.safety_weight.top_k))
    terms = sampled_terms(logprobs, batch, objective)
    token_loss = terms.loss
    statistics = {"entropy_sum": entropy(log_probs.detach()).sum(), **terms.statistics}

    base = log_softmax(base_logits.detach(), objective.temperature) if isinstance(base_logits, Tensor) else None
    taught = batch.div.nonzero().squeeze(-1)
    if len(taught):
        student, ids = log_probs[taught], batch.ids[taught]
        if isinstance(teacher_logits, SparseSignal):
            divergence, numbers = _divergence_from_sparse(student, teacher_logits.select(taught), objective, ids)
        else:
            assert teacher_logits is not None
            teacher = log_softmax(teacher_logits[taught].detach(), objective.temperature)
            target = target_log_probs(student, teacher, None if base is None else base[taught], objective)
            divergence = log_prob_divergence(student, target, objective, ids, ranking=teacher)
            numbers = _teacher_statistics(student.detach(), teacher, objective)
        token_loss = token_loss.index_add(0, taught, terms.div[taught] * divergence.value)
        statistics |= {"teacher_tokens": torch.tensor(len(taught)), **numbers}
        if objective.clip != "none":
            statistics |= {"clipped_tokens": (divergence.cut > 0).sum(), "clipped_share_sum": divergence.cut.sum()}

    anchored = batch.base_kl.nonzero().squeeze(-1)
    if objective.reference_kl and len(anchored):
        if objective.reference_kl_form == "forward_kl":
            assert base is not None
            warm = objective.reference_temperature
            sides = base[anchored], log_probs[anchored]
            distance = warm**2 * kl(*(log_softmax(side, warm) for side in sides))
            weight = objective.reference_kl * batch.base_kl[anchored]
            token_loss = token_loss.index_add(0, anchored, weight * distance)
            count = torch.tensor(len(anchored))
            statistics |= {"anchored_tokens": count, "base_forward_kl_sum": kl(*sides).detach().sum()}
        else:
            given = base_logits.sampled_logprobs if isinstance(base_logits, SparseSignal) else None
            base_logprobs = token_logprobs(base, batch.ids) if base is not None else given
            assert base_logprobs is not None
            loss, numbers = reference_terms(logprobs, base_logprobs, batch, objective)
            token_loss = token_loss + loss
            statistics |= numbers

    return (batch.coef * token_loss).sum(), statistics


def _sampled_logprobs(said: Tensor | SparseSignal, ids: Tensor, temperature: float) -> Tensor:
    """The log-probabilities [N] that a teacher gives to the sampled tokens."""
    if isinstance(said, SparseSignal):
        return said.sampled_logprobs
    return token_logprobs(log_softmax(said.detach(), temperature), ids)


def _teacher_statistics(student: Tensor, teacher: Tensor, objective: Objective) -> dict[str, Tensor]:
    if read_on_support(objective, student.shape[-1]):
        ids = top_ids(student, objective.top_k)
        student, teacher = (log_softmax(side.gather(-1, ids)) for side in (student, teacher))
    return {
        "teacher_kl_sum": kl(student, teacher).sum(),
        "teacher_entropy_sum": entropy(teacher).sum(),
        "agreed": (top_ids(student, 1) == top_ids(teacher, 1)).sum(),
    }


def _divergence_from_sparse(
    student: Tensor, teacher: SparseSignal, objective: Objective, ids: Tensor
) -> tuple[TokenDivergence, dict[str, Tensor]]:
    """The divergence from the entries that were kept of a teacher, whose first is its most likely."""
    kept = teacher.ids.long()
    if objective.support == "sampled":
        surrogate = sampled_surrogate(token_logprobs(student, ids), teacher.sampled_logprobs)
        divergence = TokenDivergence(surrogate, torch.zeros_like(surrogate))
    else:
        divergence = support_divergence(student.gather(-1, kept), teacher.logprobs, objective)
    agreed = top_ids(student.detach(), 1)[:, 0] == kept[:, 0]
    return divergence, {"teacher_entropy_sum": teacher.entropy.sum(), "agreed": agreed.sum()}


def summarize(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, float | None]:
    """The statistics of a step's micro-batches as the numbers of its log line; None where there is nothing to average.

    `kl_teacher` is KL(student‖teacher) whatever the divergence trained on: over the full vocabulary, and where the
    support is the student's renormalized top-k, over that support, for the teacher is asked for no more;
    `teacher_entropy` and `agreement` are then of the support too. `is_ratio_*` are
    trainer against sampler before capping, so that recipes can be compared. Nats, per token. `agreement` is the share
    of tokens at which student and teacher find the same token most likely. `clipped_token_fraction` is the share of
    tokens at whose divergence the objective's clip changes anything, `clipped_entry_fraction` that of all entries of
    the support, a tail bucket among them, whose summand it changes: `entry` cuts each by itself, `token` scales all of
    a token's or none, so that both shares are the same. `source_*` are of tokens that the student did not write with
    this prompt, trainer against who wrote them: variance of the ratio, and mean size of its logarithm.
    """

    def total(key: str) -> float:
        return float(sum(part[key].item() for part in parts if key in part))

    def mean(key: str, count: str) -> float | None:
        return total(key) / total(count) if total(count) and any(key in part for part in parts) else None

    def variance(sum_: str, squares: str, count: str) -> float | None:
        first, second = mean(sum_, count), mean(squares, count)
        return None if first is None or second is None else max(0.0, second - first**2)

    return {
        "trained_tokens": int(total("tokens")),
        "entropy": mean("entropy_sum", "tokens"),
        "kl_teacher": mean("teacher_kl_sum", "teacher_tokens"),
        "teacher_entropy": mean("teacher_entropy_sum", "teacher_tokens"),
        "agreement": mean("agreed", "teacher_tokens"),
        "clipped_token_fraction": mean("clipped_tokens", "teacher_tokens"),
        "clipped_entry_fraction": mean("clipped_share_sum", "teacher_tokens"),
        "is_ratio_mean": mean("is_ratio_sum", "sampled_tokens"),
        "is_ratio_max": max((part["is_ratio_max"].item() for part in parts), default=0.0) or None,
        "is_capped_fraction": mean("is_capped", "sampled_tokens"),
        "clip_fraction": mean("clipped", "advised_tokens"),
        "source_ratio_variance": variance("source_ratio_sum", "source_square_sum", "source_tokens"),
        "source_log_ratio": mean("source_log_sum", "source_tokens"),
        "kl_base_estimate": mean("base_kl_sum", "anchored_tokens"),
        "kl_base": mean("base_forward_kl_sum", "anchored_tokens"),
    }
