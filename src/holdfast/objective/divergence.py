"""Divergences between the student's and the teacher's next-token distribution: the readable definition.

Tensors are flat over loss tokens: N tokens, V vocabulary entries. Everything is computed in fp32 (fp64 where the
logits are), the teacher is always detached, and the logits are taken as they come: a temperature has been applied.

With s the student, q the teacher and m = (1−beta)·s + beta·q (SDPO, arXiv 2601.20802; SDFT, arXiv 2601.19897; the
generalised JSD of on-policy distillation, arXiv 2306.13649):

    forward_kl   KL(q‖s)
    reverse_kl   KL(s‖q)
    jsd          beta·KL(q‖m) + (1−beta)·KL(s‖m)

The Kullback–Leibler divergences are not the ends of the JSD's dial: it tends to 0 as beta tends to 0 or 1.
"""

import math

import torch
from torch import Tensor

from holdfast.objective.spec import Objective

MAX_LOG_MASS = -1e-7
"""Largest log-probability that the top-k entries together may have: it keeps the log of the tail finite."""


def log_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities over the last dimension in at least fp32; narrow logits are widened before anything else."""
    widened = logits.float() if logits.dtype.itemsize < 4 else logits
    return torch.log_softmax(widened if temperature == 1 else widened / temperature, dim=-1)


def token_logprobs(log_probs: Tensor, ids: Tensor) -> Tensor:
    """The log-probability of one id per token: [N, V], [N] → [N]."""
    return log_probs.gather(-1, ids.unsqueeze(-1)).squeeze(-1)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p‖q) of log-probabilities over the last dimension, in nats."""
    return (p.exp() * (p - q)).sum(-1)


def token_divergence(
    student_logits: Tensor, teacher_logits: Tensor, objective: Objective, sampled_ids: Tensor
) -> Tensor:
    """The objective's divergence at every token, in nats.

    Args:
        student_logits: [N, V], temperature applied; gradient flows through them.
        teacher_logits: [N, V], temperature applied, of the same completion tokens under the teacher's prompt.
        objective: `divergence`, `jsd_beta`, `support` and `top_k` are read.
        sampled_ids: [N], the completion's tokens; read by support `sampled` alone.

    Returns:
        [N]. With support `sampled` it is a surrogate, sg(log s(y) − log q(y))·log s(y), whose gradient in expectation
        over y ~ s is that of the reverse KL; its value is no divergence.
    """
    return log_prob_divergence(log_softmax(student_logits), log_softmax(teacher_logits), objective, sampled_ids)


def log_prob_divergence(student: Tensor, teacher: Tensor, objective: Objective, sampled_ids: Tensor) -> Tensor:
    """`token_divergence` of log-probabilities that are already normalised, for callers that need these anyway."""
    teacher = teacher.detach()
    if objective.support == "sampled":
        chosen = token_logprobs(student, sampled_ids)
        return (chosen - token_logprobs(teacher, sampled_ids)).detach() * chosen
    if objective.support != "full" and objective.top_k < student.shape[-1]:
        ids = student.detach().topk(objective.top_k, dim=-1, sorted=False).indices
        close = with_tail if objective.support == "topk_tail" else log_softmax
        student, teacher = close(student.gather(-1, ids)), close(teacher.gather(-1, ids))
    if objective.divergence == "forward_kl":
        return kl(teacher, student)
    if objective.divergence == "reverse_kl":
        return kl(student, teacher)
    beta = objective.jsd_beta
    mixture = torch.logaddexp(student + math.log1p(-beta), teacher + math.log(beta))
    return beta * kl(teacher, mixture) + (1 - beta) * kl(student, mixture)


def with_tail(log_probs: Tensor) -> Tensor:
    """True log-probabilities of some entries [N, K], and of all the others together as one more: [N, K + 1].

    SDPO's eq. 9. Rounding can bring the K entries' mass to 1 or beyond it, hence the clamp.
    """
    log_mass = log_probs.logsumexp(dim=-1, keepdim=True).clamp(max=MAX_LOG_MASS)
    return torch.cat((log_probs, torch.log(-torch.expm1(log_mass))), dim=-1)
