"""One loss for every recipe, in the readable form: the annotated components, weighted, corrected and summed.

    L = Σ_t coef_t · { is_t · [ce_t·w_t·CE_t + div_t·v_t·D_t] + is'_t·PG_t + r·base_kl_t·KL_t(student, base) }

The sum runs over loss tokens t, flat and without padding.

    coef                the reduction, from `row_coefficients`, times the token's own weight
    is, is'             importance ratios, see `holdfast.objective.importance`
    ce, div, base_kl    the row's weights of cross-entropy CE, divergence D from the target, and KL to the base
    w, v                weights that depend on the token's probabilities
    PG                  the policy gradient
    r                   the objective's `reference_kl`

`coef` is computed once over all rows of an optimizer step. So losses and gradients of micro-batches add up to those of
the step, however the rows are split.

`holdfast.objective.fused.loss` computes the same from hidden states, without logits of all tokens at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from holdfast.objective.batch import Batch
from holdfast.objective.divergence import (
    TokenDivergence,
    entropy,
    kl,
    log_prob_divergence,
    log_softmax,
    reference_divergence,
    reference_form,
    sampled_surrogate,
    support_divergence,
    token_logprobs,
    top_ids,
)
from holdfast.objective.importance import (
    confidence,
    divergence_weights,
    importance_of,
    token_weights,
    top_entropy,
)
from holdfast.objective.signals import SignalSource, SparseSignal, entries_read, read_on_support
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
    """The part of the objective that needs only the student's log-probabilities of the sampled tokens."""

    loss: Tensor
    """[N], weighted cross-entropy and policy gradient, without `coef`."""
    div: Tensor
    """[N], detached: the weight of the divergence, without `coef`."""
    statistics: dict[str, Tensor]


def sampled_terms(logprobs: Tensor, batch: Batch, objective: Objective) -> SampledTerms:
    """Cross-entropy, policy gradient and importance.

    Args:
        logprobs: [N], with gradient. If something is averaged over a row, all of the row's tokens must be there.
    """
    importance = importance_of(logprobs.detach(), batch, objective)
    loss = importance.full * batch.ce * token_weights(logprobs.detach(), batch, objective) * -logprobs
    statistics = {"tokens": torch.tensor(len(batch.ids)), "logprobs": logprobs.detach(), **importance.statistics}
    if objective.policy_gradient is not None:
        spec = objective.policy_gradient
        at_rollout = torch.where(batch.old_logprobs.isnan(), logprobs.detach(), batch.old_logprobs)
        teacher = torch.where(batch.teacher_logprobs.isnan(), at_rollout, batch.teacher_logprobs)
        advantages = modulated_advantages(batch.advantage, at_rollout, teacher, spec)
        old, advantages = off_policy_terms(logprobs, at_rollout, batch.source_logprobs, advantages, spec)
        surrogate, clipped = policy_gradient_loss(logprobs, old, advantages, batch.row_index, batch.rows, spec)
        loss = loss + importance.sampler * surrogate
        statistics |= {"advised_tokens": (batch.advantage != 0).sum(), "clipped": clipped.sum()}
        statistics |= source_statistics(logprobs.detach(), batch.source_logprobs)
    div = importance.full * batch.div * divergence_weights(logprobs.detach(), batch, objective)
    return SampledTerms(loss, div.detach(), statistics)


def reference_terms(
    logprobs: Tensor, base_logprobs: Tensor, batch: Batch, objective: Objective
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted k3 or k2 estimate [N] of KL(student‖base), and its statistics."""
    anchored = batch.base_kl != 0
    distance = squared_log_ratio if objective.reference_kl_form == "k2" else reference_kl
    # Tokens with base_kl 0 may have anything here, NaN included, and 0 times NaN is NaN.
    estimate = distance(logprobs, torch.where(anchored, base_logprobs, logprobs.detach()))
    loss = objective.reference_kl * batch.base_kl * estimate
    return loss, {"anchored_tokens": anchored.sum(), "base_kl_sum": torch.where(anchored, estimate.detach(), 0.0).sum()}


def check_components(batch: Batch, objective: Objective, teacher: object, base: object) -> None:
    """Check that everything that the batch's rows are annotated with can be computed.

    Args:
        teacher, base: their signals in any form, or None.

    Raises:
        ValueError: rows are annotated for a component that the objective or the caller does not provide.
    """
    if objective.token_weight is not None and objective.token_weight.tau == "median":
        raise ValueError("tau: median is a median over all rows of a step; measure it first, and set the number")
    if batch.div.any() and teacher is None:
        raise ValueError("rows have a divergence (div is not 0), but there are no teacher logits; pass them")
    if teacher is None and bool(batch.uses_teacher_logprobs(objective).any()):
        raise ValueError("rows are weighted by the teacher's probabilities, but there are no teacher logits; pass them")
    if objective.policy_gradient is None and batch.advantage.any():
        raise ValueError("rows have an advantage, but the objective has no policy gradient; set `policy_gradient`")
    if objective.reference_kl and batch.base_kl.any() and base is None:
        raise ValueError("rows have a KL to the base (base_kl is not 0), but there are no base logits; pass them")
    if objective.anchor == "base" and batch.div.any() and base is None:
        raise ValueError("the target is anchored to the base, but there are no base logits; pass them")
    signals: list[tuple[object, SignalSource]] = [(teacher, "teacher"), (base, "base")]
    for signal, source in signals:
        if isinstance(signal, SparseSignal) and entries_read(objective, source) is None:
            raise ValueError(
                f"the objective reads the {source}'s full distribution, but only some entries were kept; pass a "
                "HiddenSignal"
            )


def loss_and_statistics(
    student_logits: Tensor,
    batch: Batch,
    objective: Objective,
    teacher_logits: Tensor | SparseSignal | None = None,
    base_logits: Tensor | SparseSignal | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one micro-batch, and its statistics.

    Args:
        student_logits: [N, V], as the model computes them. The temperature is applied here, to all three models.
        teacher_logits: [N, V], or the entries that were kept of them. Needed if any `div` is not 0, and read at such
            tokens only.
        base_logits: the same of the base. Needed if the objective has a `reference_kl` and any `base_kl` is not 0, or
            if the target is anchored to the base.

    Returns:
        The loss, a scalar in at least float32, to be added up over the step's micro-batches; and detached statistics
        for `summarize`. Among them is `logprobs` [N], the sampled tokens' log-probabilities, for `store_old_logprobs`.

    Raises:
        ValueError: rows are annotated for a component that the objective or the caller does not provide.
    """
    check_components(batch, objective, teacher_logits, base_logits)
    log_probs = log_softmax(student_logits, objective.temperature)
    logprobs = token_logprobs(log_probs, batch.ids)
    if objective.entropy_weight is not None:
        entropies = top_entropy(log_probs.detach(), objective.entropy_weight.top_k)
        batch = replace(batch, student_entropy=entropies)
    if objective.reads_teacher_tokens and teacher_logits is not None:
        teacher_logprobs = _sampled_logprobs(teacher_logits, batch.ids, objective.temperature)
        batch = batch.with_teacher_logprobs(teacher_logprobs, objective)
    if (
        objective.divergence_weight is not None
        and objective.reads_teacher_confidence
        and isinstance(teacher_logits, Tensor)
    ):
        teacher = log_softmax(teacher_logits.detach(), objective.temperature)
        batch = batch.with_teacher_confidence(confidence(teacher, objective.divergence_weight.top_k))
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
            statistics |= {
                "clipped_tokens": (divergence.clipped_share > 0).sum(),
                "clipped_share_sum": divergence.clipped_share.sum(),
            }

    anchored = batch.base_kl.nonzero().squeeze(-1)
    if objective.reference_kl and len(anchored):
        if objective.reference_kl_form == "forward_kl":
            assert base is not None
            sides = base[anchored], log_probs[anchored]
            ids = batch.ids[anchored]
            reference, student = (reference_form(side, ids, objective) for side in sides)
            distance = reference_divergence(reference, student, ids, objective)
            weight = objective.reference_kl * batch.base_kl[anchored]
            token_loss = token_loss.index_add(0, anchored, weight * distance)
            count = torch.tensor(len(anchored))
            statistics |= {"anchored_tokens": count, "base_forward_kl_sum": kl(*sides).detach().sum()}
        else:
            kept = base_logits.sampled_logprobs if isinstance(base_logits, SparseSignal) else None
            base_logprobs = token_logprobs(base, batch.ids) if base is not None else kept
            assert base_logprobs is not None
            loss, numbers = reference_terms(logprobs, base_logprobs, batch, objective)
            token_loss = token_loss + loss
            statistics |= numbers

    return (batch.coef * token_loss).sum(), statistics


def _sampled_logprobs(teacher: Tensor | SparseSignal, ids: Tensor, temperature: float) -> Tensor:
    """The teacher's log-probabilities [N] of the sampled tokens."""
    if isinstance(teacher, SparseSignal):
        return teacher.sampled_logprobs
    return token_logprobs(log_softmax(teacher.detach(), temperature), ids)


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
    """The divergence from the kept entries of a teacher's distribution, and its statistics."""
    kept = teacher.ids.long()
    if objective.support == "sampled":
        surrogate = sampled_surrogate(token_logprobs(student, ids), teacher.sampled_logprobs)
        divergence = TokenDivergence(surrogate, torch.zeros_like(surrogate))
    else:
        divergence = support_divergence(student.gather(-1, kept), teacher.logprobs, objective)
    agreed = top_ids(student.detach(), 1)[:, 0] == kept[:, 0]  # the most likely entry is kept first
    return divergence, {"teacher_entropy_sum": teacher.entropy.sum(), "agreed": agreed.sum()}


def summarize(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, float | None]:
    """The metrics of a step's log line, from the statistics of its micro-batches; None if there is nothing to average.

    Entropies and KLs are in nats per token.

    kl_teacher                  KL(student‖teacher), whatever divergence is trained on. It is over the full vocabulary.
                                If the support is the student's renormalized top-k, only that support of the teacher is
                                computed, and `kl_teacher`, `teacher_entropy` and `agreement` are over the support.
    agreement                   The share of tokens at which student and teacher have the same most likely token.
    clipped_token_fraction      The share of tokens whose divergence the objective's `clip` changes.
    clipped_entry_fraction      The share of entries of the support, tail bucket included, whose summand it changes.
                                `clip: entry` changes entries one by one. `clip: token` scales all entries of a token or
                                none, so both shares are equal.
    clip_fraction               The share of tokens with an advantage whose ratio the policy gradient clips.
    is_ratio_*                  Trainer against sampler, before the cap, so that recipes can be compared.
    is_capped_fraction          The share of sampled tokens whose ratio the cap changes.
    source_*                    Trainer against the model or prompt that wrote a completion, if that is not the student
                                with this prompt: variance of the ratio, and mean size of its logarithm.
    kl_base_estimate, kl_base   KL(student‖base) estimated from sampled tokens; KL(base‖student) over the vocabulary.
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
