"""Closed-form values and gradients of divergences over the full vocabulary, for a block of tokens, in place.

The same numbers as `holdfast.objective.divergence`, which is their definition. A block of n tokens is

    logs      [n, S, V]   log-probabilities of S distributions, the student's p in slot 0
    probs     [n, M, V]   the probabilities of the first M of them
    expected  [n, M, S]   E_i[log j] = Σ_v i(v)·log j(v) for every pair (i, j) of them

Entropies and Kullback–Leibler divergences are differences of `expected`: KL(i‖j) = E_i[log i] − E_i[log j]. With q the
target and a a token's weight, every divergence has a gradient in the student's logits with one of two terms:

    p·(a·r − a·E_p[r])      reverse KL and JSD; r stays in the student's slot of `logs`
    a·(mass·p − q)          forward KL; q stays in the target's slot of `probs`, and mass is its sum

`mixed_kl` is the weighted sum of two divergences, so its gradient has both terms.

A clip by entry leaves the clipped entries out of r or of q. The softmax's normalizer p stays as it is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from holdfast.objective.divergence import TokenDivergence, token_clip_factor, token_clipped
from holdfast.recipes.parts.objective import Objective

NEWTON_STEPS = 40
"""Most steps toward a partial target's weight. Five are usual; distributions that are far apart need more."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """A divergence's gradient per unit of weight: p·(scale·r − center) + share·(mass·p − q).

    The first term is there if `center` is given, the second if `mass` is.
    """

    factor: Tensor | float
    """[n], by which a clip of the token's divergence multiplies all of it."""
    scale: float = 1.0
    center: Tensor | None = None
    """[n], scale·E_p[r]."""
    mass: Tensor | None = None
    """[n], Σ_v q(v) over the entries that are not clipped."""
    share: float = 1.0


def expected_log_probs(probs: Tensor, logs: Tensor, out: Tensor) -> None:
    """Write E_i[log j] = Σ_v probs[n, i, v]·logs[n, j, v] into `out` [n, M, S].

    For a single distribution in `probs`, only E_0[log 0] is written.
    """
    tokens, count, _ = probs.shape
    if probs.device.type != "cpu":
        # No matrix product: GPUs may round its factors to TF32, and a divergence is a small difference of these sums.
        for i in range(count):
            for j in range(logs.shape[1]):
                torch.sum(probs[:, i] * logs[:, j], dim=-1, out=out[:, i, j])
    elif count == 1 and tokens % 2 == 0:
        # A batched product of single vectors is slow on CPUs, so two tokens are multiplied with each other: 2 × 2
        # products, of which the diagonal is wanted.
        left, right = (side[:, 0].unflatten(0, (tokens // 2, 2)) for side in (probs, logs))
        pairs = torch.bmm(left, right.transpose(1, 2))
        out[:, 0, 0] = pairs.diagonal(dim1=1, dim2=2).flatten()
    else:
        # One batched product reads every entry once for all pairs.
        torch.bmm(probs, logs.transpose(1, 2), out=out)


def full_divergence(
    logs: Tensor, probs: Tensor, expected: Tensor, target: int, objective: Objective
) -> tuple[TokenDivergence, Gradient]:
    """The divergence over the full vocabulary between the student and the distribution in slot `target`.

    Overwrites `logs` and `probs` as the module's docstring says.
    """
    p, q, log_p, log_q = probs[:, 0], probs[:, target], logs[:, 0], logs[:, target]
    by_entry, beta = objective.clip == "entry", objective.jsd_beta
    summands: Tensor | None = None
    clipped = torch.empty(0)
    scale, center, mass, forward = 1.0, None, None, 1.0
    if objective.divergence == "forward_kl":
        value = expected[:, target, target] - expected[:, target, 0]
        mass = torch.ones_like(value)
        if by_entry:
            summands = log_q.sub_(log_p).mul_(q)
            clipped = summands > objective.clip_at
            mass = q.masked_fill_(clipped, 0.0).sum(-1)
    elif objective.divergence == "reverse_kl":
        value = expected[:, 0, 0] - expected[:, 0, target]
        r, center = log_p.sub_(log_q), value
        if by_entry:
            summands = torch.mul(r, p, out=log_q)
            clipped = summands > objective.clip_at
            # A summand p·log(p/q) has the derivative log(p/q) + 1 in p. The 1 cancels in a sum over all entries, but
            # not in a sum over the entries that are left.
            center = _mean_of_kept(r.add_(1.0), p, clipped)
    elif objective.divergence == "mixed_kl":
        forward = objective.forward_share
        scale = 1 - forward
        reverse = expected[:, 0, 0] - expected[:, 0, target]
        value = forward * (expected[:, target, target] - expected[:, target, 0]) + scale * reverse
        r, center, mass = log_p.sub_(log_q), scale * reverse, torch.ones_like(value)
        if by_entry:
            summands = torch.mul(r, p, out=log_q).mul_(scale).addcmul_(r, q, value=-forward)
            clipped = summands > objective.clip_at
            center = scale * _mean_of_kept(r.add_(1.0), p, clipped)  # the 1 as for the reverse KL
            mass = q.masked_fill_(clipped, 0.0).sum(-1)
    else:
        scale = 1 - beta
        # If an entry is 0 on both sides, so is the mixture m there. Its summand is 0 for any finite log m.
        tiny = torch.finfo(logs.dtype).tiny
        if by_entry:
            log_m = torch.lerp(p, q, beta).clamp_(min=tiny).log_()
            r, summands = log_p.sub_(log_m), log_q.sub_(log_m).mul_(q).mul_(beta)
            summands.addcmul_(p, r, value=1 - beta)
            clipped = summands > objective.clip_at
            value = summands.sum(-1)
            center = _mean_of_kept(r, p, clipped)
        else:
            # log m overwrites log q, which nothing else needs; so E_i[log m] is one more product of the same pairs.
            log_m = torch.lerp(p, q, beta, out=log_q).clamp_(min=tiny).log_()
            with_mixture = torch.empty_like(expected)
            expected_log_probs(probs, logs, with_mixture)
            center = expected[:, 0, 0] - with_mixture[:, 0, target]
            value = beta * (expected[:, target, target] - with_mixture[:, target, target]) + (1 - beta) * center
            log_p.sub_(log_m)
        center = (1 - beta) * center
    factor = token_clip_factor(value, objective)
    gradient = Gradient(factor, scale, center, mass, forward)
    if summands is None:
        return TokenDivergence(value * factor, token_clipped(value, objective)), gradient
    clipped_share = clipped.sum(-1).to(value.dtype) / clipped.shape[-1]
    return TokenDivergence(summands.clamp_(max=objective.clip_at).sum(-1), clipped_share), gradient


def logit_gradient(
    logs: Tensor, probs: Tensor, rest: Tensor, weight: Tensor, gradient: Gradient | None, target: int | None
) -> None:
    """Write weight · gradient + rest · p into the student's slot of `logs`: the loss's gradient in its logits.

    Args:
        rest: [n], the factor of p that does not come from the divergence.
        weight: [n], the loss's derivative in the divergence.
        gradient: None if no divergence over the vocabulary counts.
    """
    student, out, rest = probs[:, 0], logs[:, 0], rest.unsqueeze(-1)
    if gradient is None:
        torch.mul(student, rest, out=out)
        return
    weight = (weight * gradient.factor).unsqueeze(-1)
    # `rest` is folded into the divergence's own factor of p, so that the vocabulary is passed over once less.
    if gradient.mass is not None:
        rest = rest + weight * gradient.share * gradient.mass.unsqueeze(-1)
    if gradient.center is not None:
        out.mul_(weight * gradient.scale).add_(rest - weight * gradient.center.unsqueeze(-1)).mul_(student)
    else:
        torch.mul(student, rest, out=out)
    if gradient.mass is not None:
        assert target is not None
        out.addcmul_(probs[:, target], weight, value=-gradient.share)


def _mean_of_kept(values: Tensor, probs: Tensor, clipped: Tensor) -> Tensor:
    """Set clipped entries to 0, and return the mean [n] of `values` under `probs`."""
    return values.masked_fill_(clipped, 0.0).mul(probs).sum(-1)


def partial_target(logs: Tensor, scratch: Tensor, teacher: int, target: int, fraction: float) -> None:
    """Write log-probabilities of the partial target into slot `target` of `logs`.

    The definition is `holdfast.objective.targets.partial_weight`, which bisects for the weight at which G(λ), the mean
    of log q − log p under the mix, is what is wanted. G's slope is the variance of log q − log p under the mix, so this
    takes Newton steps instead, which need fewer passes over the vocabulary. A step that would leave the interval known
    to hold the weight is replaced by halving that interval.

    Args:
        scratch: [n, M, V] with M > target; overwritten.
    """
    log_p, gap = logs[:, 0], logs[:, target]
    mix, product = scratch[:, target], scratch[:, 0]
    torch.sub(logs[:, teacher], log_p, out=gap)

    def moments(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mix's normalizer at a weight, and the gap's mean and variance under the mix."""
        total = torch.addcmul(log_p, gap, weight.unsqueeze(-1), out=mix).exp_().sum(-1)
        mean = torch.mul(mix, gap, out=product).sum(-1) / total
        return total, mean, product.mul_(gap).sum(-1) / total - mean.square()

    low, high = torch.zeros_like(gap[:, 0]), torch.ones_like(gap[:, 0])
    at_low, at_high = moments(low)[1], moments(high)[1]
    span, wanted = at_high - at_low, fraction * at_high
    # 32 roundings of a mean of that size: a sum over the vocabulary is not more exact, so no step would come closer.
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
    gap.mul_(weight.unsqueeze(-1)).add_(log_p).sub_(total.log().unsqueeze(-1))
