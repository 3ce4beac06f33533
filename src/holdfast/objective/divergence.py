"""Divergences between the student's next-token distribution and a target's: the readable definition.

Tensors are flat over loss tokens: N tokens, V vocabulary entries. Everything is computed in float32, or in float64 if
the logits are. The target is always detached. The temperature is applied before: logits are used as they are given.

With s the student, q the target (the teacher, or a mix with it, see `holdfast.objective.targets`) and
m = (1−beta)·s + beta·q (SDPO, arXiv 2601.20802; SDFT, arXiv 2601.19897; the generalized JSD of on-policy
distillation, arXiv 2306.13649):

    forward_kl   KL(q‖s)
    reverse_kl   KL(s‖q)
    jsd          beta·KL(q‖m) + (1−beta)·KL(s‖m)
    mixed_kl     w·KL(q‖s) + (1−w)·KL(s‖q), w the objective's `forward_share` (SD-Zero's released code)

The JSD does not become one of the KLs at the ends of its range: it tends to 0 as beta tends to 0 or 1.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from holdfast.recipes.parts.objective import Objective

MAX_LOG_MASS = -1e-7
"""Largest log-probability of all top-k entries together. It keeps the log of the tail, log(1 − mass), finite."""


class TokenDivergence(NamedTuple):
    """[N] each, in nats."""

    value: Tensor
    """The value that is trained on."""
    clipped_share: Tensor
    """Detached. The share of the divergence's summands, one for each entry, that the objective's `clip` changes."""


def log_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities over the last dimension, in at least float32. Narrower logits are converted first."""
    widened = logits.float() if logits.dtype.itemsize < 4 else logits
    return torch.log_softmax(widened if temperature == 1 else widened / temperature, dim=-1)


def token_logprobs(log_probs: Tensor, ids: Tensor) -> Tensor:
    """The log-probability of one id per token: [N, V], [N] → [N]."""
    return log_probs.gather(-1, ids.unsqueeze(-1)).squeeze(-1)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p‖q) of log-probabilities over the last dimension, in nats."""
    return _kl_terms(p, q).sum(-1)


def without(log_probs: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities [N, V] without one entry per token `ids` [N], renormalized; that entry is −∞."""
    return log_softmax(log_probs.scatter(-1, ids.unsqueeze(-1), -math.inf))


def reference_form(log_probs: Tensor, ids: Tensor, objective: Objective) -> Tensor:
    """Log-probabilities [N, V] as the objective's `forward_kl` compares them: at its temperature, and perhaps without
    the tokens `ids` [N] themselves."""
    if objective.reference_temperature != 1:
        log_probs = log_softmax(log_probs, objective.reference_temperature)
    return without(log_probs, ids) if objective.reference_without_token else log_probs


def reference_divergence(reference: Tensor, student: Tensor, ids: Tensor, objective: Objective) -> Tensor:
    """T²·KL(reference‖student) [N] of log-probabilities [N, V] that are in `reference_form`."""
    gap = reference - student
    if objective.reference_without_token:
        gap = gap.scatter(-1, ids.unsqueeze(-1), 0.0)  # −∞ on both sides
    return objective.reference_temperature**2 * (reference.exp() * gap).sum(-1)


def entropy(log_probs: Tensor) -> Tensor:
    """Entropy of log-probabilities over the last dimension, in nats."""
    return -(log_probs.exp() * log_probs).sum(-1)


def top_ids(values: Tensor, k: int) -> Tensor:
    """Indices of the k largest entries of each row, in no order: [N, V] → [N, k].

    The k largest entries are all in the k blocks with the largest maxima. So the function finds these blocks, and then
    the entries in them. This is exact, and several times faster than a top-k over the whole vocabulary.
    """
    tokens, vocabulary = values.shape
    # The two searches cost about V/height and k·height entries; a height of √(V/k) makes their sum smallest.
    height = min(32, 2 ** round(math.log2(max(1, vocabulary / k)) / 2))
    blocks = vocabulary // height
    if height < 4:
        return values.topk(k, dim=-1, sorted=False).indices
    # Block j is {j, j + blocks, j + 2·blocks, …}, so the maxima of neighboring blocks are taken in contiguous memory.
    grid = values[:, : height * blocks].view(tokens, height, blocks)
    best = grid.amax(1).topk(k, dim=-1, sorted=False).indices
    rows = torch.arange(height, device=values.device).unsqueeze(-1) * blocks
    ids = (rows + best.unsqueeze(1)).flatten(1)
    rest = torch.arange(height * blocks, vocabulary, device=values.device).expand(tokens, -1)
    ids = torch.cat((ids, rest), dim=-1)
    return ids.gather(-1, values.gather(-1, ids).topk(k, dim=-1, sorted=False).indices)


def token_divergence(
    student_logits: Tensor, teacher_logits: Tensor, objective: Objective, sampled_ids: Tensor
) -> Tensor:
    """The objective's divergence from the teacher at every token, in nats.

    Args:
        student_logits: [N, V], with the temperature applied; the gradient flows through them.
        teacher_logits: [N, V], with the temperature applied, of the same completion tokens after the teacher's prompt.
        objective: `divergence` with its weight, the support's settings and `clip` are read.
        sampled_ids: [N], the completion's tokens; only support `sampled` reads them.

    Returns:
        [N]. With support `sampled` it is a surrogate, see `sampled_surrogate`.
    """
    student, teacher = log_softmax(student_logits), log_softmax(teacher_logits)
    return log_prob_divergence(student, teacher, objective, sampled_ids).value


def log_prob_divergence(
    student: Tensor, target: Tensor, objective: Objective, sampled_ids: Tensor, ranking: Tensor | None = None
) -> TokenDivergence:
    """The divergence between log-probabilities [N, V] that are normalized over the vocabulary.

    Args:
        ranking: [N, V], by which `top_k_by: teacher` chooses the entries. If the target is a mix, these are the
            teacher's own log-probabilities; None for the target's.
    """
    target = target.detach()
    if objective.support == "sampled":
        baseline = sampled_baseline(student.detach(), target, objective)
        chosen = token_logprobs(student, sampled_ids)
        surrogate = sampled_surrogate(chosen, token_logprobs(target, sampled_ids), baseline)
        return TokenDivergence(surrogate, torch.zeros_like(surrogate))
    if objective.support != "full" and objective.top_k < student.shape[-1]:
        ranks = student if objective.top_k_by == "student" else target if ranking is None else ranking
        ids = top_ids(ranks.detach(), objective.top_k)
        return support_divergence(student.gather(-1, ids), target.gather(-1, ids), objective)
    return _divergence(student, target, objective)


def sampled_baseline(student: Tensor, target: Tensor, objective: Objective) -> Tensor | float:
    """The baseline [N] that the objective subtracts from log s(y) − log q(y). It is the same for all tokens y.

    Args:
        student, target: log-probabilities [N, V].
    """
    if objective.sampled_baseline == "none":
        return 0.0
    if objective.sampled_baseline == "topk_kl" and objective.top_k < student.shape[-1]:
        ids = top_ids(student, objective.top_k)
        student, target = (log_softmax(side.gather(-1, ids)) for side in (student, target))
    return kl(student, target)


def sampled_surrogate(chosen: Tensor, target: Tensor, baseline: Tensor | float = 0.0) -> Tensor:
    """sg(log s(y) − log q(y) − baseline)·log s(y), from the sampled tokens' log-probabilities [N]; sg stops gradients.

    Its expected gradient over y ~ s is that of the reverse KL. Its value is not a divergence. A baseline that does not
    depend on y changes only the variance: KL(s‖q), the mean of log s(y) − log q(y) over y ~ s (vOPD,
    arXiv 2605.07865), or the KL over a few entries.
    """
    return (chosen - target - baseline).detach() * chosen


def support_divergence(student: Tensor, target: Tensor, objective: Objective) -> TokenDivergence:
    """The divergence over a top-k support.

    Args:
        student, target: the support's log-probabilities [N, K], normalized over the whole vocabulary.
    """
    close = with_tail if objective.support == "topk_tail" else log_softmax
    return _divergence(close(student), close(target.detach()), objective)


def with_tail(log_probs: Tensor) -> Tensor:
    """Log-probabilities of K entries, and of all others together as one more: [N, K] → [N, K + 1] (SDPO, eq. 9).

    The clamp is needed because rounding can bring the K entries' mass to 1 or above.
    """
    log_mass = log_probs.logsumexp(dim=-1, keepdim=True).clamp(max=MAX_LOG_MASS)
    return torch.cat((log_probs, torch.log(-torch.expm1(log_mass))), dim=-1)


def _kl_terms(p: Tensor, q: Tensor) -> Tensor:
    return p.exp() * (p - q)


def _divergence(student: Tensor, target: Tensor, objective: Objective) -> TokenDivergence:
    """A weighted sum of KLs between distributions [N, K] that add up to 1, clipped."""
    if objective.divergence == "forward_kl":
        parts = [(1.0, _kl_terms(target, student))]
    elif objective.divergence == "reverse_kl":
        parts = [(1.0, _kl_terms(student, target))]
    elif objective.divergence == "mixed_kl":
        weight = objective.forward_share
        parts = [(weight, _kl_terms(target, student)), (1 - weight, _kl_terms(student, target))]
    else:
        beta = objective.jsd_beta
        mixture = torch.logaddexp(student + math.log1p(-beta), target + math.log(beta))
        parts = [(beta, _kl_terms(target, mixture)), (1 - beta, _kl_terms(student, mixture))]
    if objective.clip == "entry":
        entries = torch.stack([weight * terms for weight, terms in parts]).sum(0)
        share = (entries.detach() > objective.clip_at).to(entries.dtype).mean(-1)
        return TokenDivergence(entries.clamp(max=objective.clip_at).sum(-1), share)
    whole = torch.stack([weight * terms.sum(-1) for weight, terms in parts]).sum(0)
    factor = token_clip_factor(whole.detach(), objective)
    return TokenDivergence(whole * factor, token_clipped(whole.detach(), objective))


def token_clip_factor(divergence: Tensor, objective: Objective) -> Tensor | float:
    """The factor [N] with which `clip: token` brings each divergence [N] down to `clip_at`; 1 with another `clip`."""
    return objective.clip_at / divergence.clamp(min=objective.clip_at) if objective.clip == "token" else 1.0


def token_clipped(divergence: Tensor, objective: Objective) -> Tensor:
    """[N], 1 if `clip: token` scales the token's divergence down, 0 otherwise. It scales all summands or none."""
    above = divergence > (objective.clip_at if objective.clip == "token" else math.inf)
    return above.to(divergence.dtype)
