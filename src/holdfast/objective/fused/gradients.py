"""Closed-form values and gradients of full-vocabulary divergences, on blocks of tokens and in place.

The same numbers as `holdfast.objective.divergence`, which is their definition. A block of n tokens comes as

    logs   [n, S, V]   log-probabilities of S distributions side by side: the student's first
    probs  [n, M, V]   the probabilities of the first M of them
    gram   [n, M, S]   E_i[log j] for every pair of them

and every divergence's gradient in the student's logits is one of two forms, for a token's weight a:

    p·(a·r − a·E_p[r])      reverse KL and JSD; r is left in the student's place in `logs`
    a·(mass·p − q)          forward KL; q is left in the target's place in `probs`

with p the student. A clip by entry leaves out the clipped entries of r or of q; the softmax's normalizer stays.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from holdfast.objective.divergence import TokenDivergence, token_clip, token_cut
from holdfast.recipes.parts.objective import Objective

NEWTON_STEPS = 40
"""Most steps toward a partial target's weight; distributions that are far apart need more than the usual five."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """A divergence's gradient per unit of weight: p·(scale·r − center), or where `mass` is given mass·p − q."""

    factor: Tensor | float
    """[n], what a clip of the token's divergence multiplies all of it by."""
    scale: float = 1.0
    center: Tensor | None = None
    """[n]"""
    mass: Tensor | None = None
    """[n]"""


def pair_products(probs: Tensor, logs: Tensor, out: Tensor) -> None:
    """gram[n, i, j] = Σ_v probs[n, i, v]·logs[n, j, v]; of a single distribution's probabilities, its own alone.

    On CPUs every entry is read once.
    """
    tokens, count, _ = probs.shape
    if probs.device.type != "cpu":
        # Never a matrix product: GPUs may round its factors, and divergences are small differences of these sums.
        for i in range(count):
            for j in range(logs.shape[1]):
                torch.sum(probs[:, i] * logs[:, j], dim=-1, out=out[:, i, j])
    elif count == 1 and tokens % 2 == 0:
        # Products of single vectors are slow on CPUs; two tokens at a time, of which two of four products are wanted.
        left, right = (side[:, 0].unflatten(0, (tokens // 2, 2)) for side in (probs, logs))
        pairs = torch.bmm(left, right.transpose(1, 2))
        out[:, 0, 0] = pairs.diagonal(dim1=1, dim2=2).flatten()
    else:
        torch.bmm(probs, logs.transpose(1, 2), out=out)


def full_divergence(
    logs: Tensor, probs: Tensor, gram: Tensor, target: int, objective: Objective
) -> tuple[TokenDivergence, Gradient]:
    """The divergence over the full vocabulary between the student and distribution number `target`.

    Overwrites `logs` and `probs`, as the module says.
    """
    s, q, log_s, log_q = probs[:, 0], probs[:, target], logs[:, 0], logs[:, target]
    by_entry, beta = objective.clip == "entry", objective.jsd_beta
    terms: Tensor | None = None
    above = torch.empty(0)
    scale, center, mass = 1.0, None, None
    if objective.divergence == "forward_kl":
        value = gram[:, target, target] - gram[:, target, 0]
        mass = torch.ones_like(value)
        if by_entry:
            terms = log_q.sub_(log_s).mul_(q)
            above = terms > objective.clip_at
            mass = q.masked_fill_(above, 0.0).sum(-1)
    elif objective.divergence == "reverse_kl":
        value = gram[:, 0, 0] - gram[:, 0, target]
        r, center = log_s.sub_(log_q), value
        if by_entry:
            terms = torch.mul(r, s, out=log_q)
            # A term's own p is differentiated as well, which adds nothing over all entries, but does over some.
            above = terms > objective.clip_at
            center = _mean_of_kept(r.add_(1.0), s, above)
    else:
        scale = 1 - beta
        # An entry that is 0 on both sides contributes nothing, whatever the mixture's logarithm is there.
        tiny = torch.finfo(logs.dtype).tiny
        if by_entry:
            log_m = torch.lerp(s, q, beta).clamp_(min=tiny).log_()
            r, terms = log_s.sub_(log_m), log_q.sub_(log_m).mul_(q).mul_(beta)
            terms.addcmul_(s, r, value=1 - beta)
            above = terms > objective.clip_at
            value = terms.sum(-1)
            center = _mean_of_kept(r, s, above)
        else:
            log_m = torch.lerp(s, q, beta, out=log_q).clamp_(min=tiny).log_()
            mixed = torch.empty_like(gram)
            pair_products(probs, logs, mixed)
            center = gram[:, 0, 0] - mixed[:, 0, target]
            value = beta * (gram[:, target, target] - mixed[:, target, target]) + (1 - beta) * center
            log_s.sub_(log_m)
        center = (1 - beta) * center
    factor = token_clip(value, objective)
    gradient = Gradient(factor, scale, center, mass)
    if terms is None:
        return TokenDivergence(value * factor, token_cut(value, objective)), gradient
    cut = above.sum(-1).to(value.dtype) / above.shape[-1]
    return TokenDivergence(terms.clamp_(max=objective.clip_at).sum(-1), cut), gradient


def logit_gradient(
    logs: Tensor, probs: Tensor, rest: Tensor, weight: Tensor, gradient: Gradient | None, target: int | None
) -> None:
    """Write weight · gradient + rest · p, the loss's gradient in the student's logits, into the student's logs.

    Args:
        rest: [n], all that multiplies the student's probabilities beside the divergence.
        weight: [n], what the divergence counts for.
    """
    student, out, rest = probs[:, 0], logs[:, 0], rest.unsqueeze(-1)
    if gradient is None:
        torch.mul(student, rest, out=out)
        return
    weight = (weight * gradient.factor).unsqueeze(-1)
    if gradient.mass is not None:
        assert target is not None
        student.mul_(rest + weight * gradient.mass.unsqueeze(-1))
        torch.addcmul(student, probs[:, target], weight, value=-1, out=out)
    else:
        assert gradient.center is not None
        out.mul_(weight * gradient.scale).add_(rest - weight * gradient.center.unsqueeze(-1)).mul_(student)


def _mean_of_kept(values: Tensor, probs: Tensor, cut: Tensor) -> Tensor:
    """Zero the entries that were cut; the mean of what is left under `probs`."""
    return values.masked_fill_(cut, 0.0).mul(probs).sum(-1)


def partial_target(logs: Tensor, scratch: Tensor, teacher: int, target: int, fraction: float) -> None:
    """Write log-probabilities of the partial target, see `holdfast.objective.targets.partial_weight`, into `logs`.

    G's slope is the variance of log q − log s under the mix, so Newton's steps find the weight that the definition
    halves its interval for; where a step leaves the interval known to hold the weight, the interval is halved instead.

    Args:
        scratch: [n, M, V] with M > target; overwritten.
    """
    log_s, gap = logs[:, 0], logs[:, target]
    mix, product = scratch[:, target], scratch[:, 0]
    torch.sub(logs[:, teacher], log_s, out=gap)

    def moments(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the mix at a weight: its normalizer, and mean and variance of the gap under it."""
        total = torch.addcmul(log_s, gap, weight.unsqueeze(-1), out=mix).exp_().sum(-1)
        mean = torch.mul(mix, gap, out=product).sum(-1) / total
        return total, mean, product.mul_(gap).sum(-1) / total - mean.square()

    low, high = torch.zeros_like(gap[:, 0]), torch.ones_like(gap[:, 0])
    at_low, at_high = moments(low)[1], moments(high)[1]
    span, wanted = at_high - at_low, fraction * at_high
    close = 32 * torch.finfo(logs.dtype).eps * (1 + span)
    weight = torch.where(span > 0, (wanted - at_low) / span, 1.0).clamp(0, 1)
    for left in reversed(range(NEWTON_STEPS)):
        total, mean, variance = moments(weight)
        done = (mean - wanted).abs() <= close
        if left == 0 or bool(done.all()):
            break
        low, high = torch.where(mean < wanted, weight, low), torch.where(mean < wanted, high, weight)
        step = weight - (mean - wanted) / variance
        step = torch.where((step > low) & (step < high), step, (low + high) / 2)
        weight = torch.where(done, weight, step)
    gap.mul_(weight.unsqueeze(-1)).add_(log_s).sub_(total.log().unsqueeze(-1))
