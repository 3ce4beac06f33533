"""Losses on the log-probability of the sampled token: the policy gradient, and estimates of the KL to a reference.

Tensors are flat over loss tokens [N]. `row_index` is the row of each token. Some of these functions average over a row,
so all of a row's tokens must be there.
"""

import torch
from torch import Tensor

from holdfast.recipes.parts.objective import PolicyGradient

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to ± this before the exponential, so that no ratio overflows (as in SDPO's code)."""


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """exp(numerator − denominator) of log-probabilities; always finite, because the difference is clamped."""
    return (numerator - denominator).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def row_mean(values: Tensor, row_index: Tensor, rows: int) -> Tensor:
    """Each row's mean over its tokens, repeated at every token of the row: [N] → [N]."""
    sums = values.new_zeros(rows).index_add(0, row_index, values)
    counts = values.new_zeros(rows).index_add(0, row_index, torch.ones_like(values))
    return (sums / counts.clamp(min=1))[row_index]


def policy_gradient_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, row_index: Tensor, rows: int, spec: PolicyGradient
) -> tuple[Tensor, Tensor]:
    """The policy-gradient loss [N], before weights and reduction.

    ρ_t = p(y_t)/p_old(y_t). For ratio `sequence`, every token of a row has the row's geometric mean of these, and is
    differentiated as such (GSPO, arXiv 2507.18071).

        clip    −min(ρ A, clip(ρ, 1 − epsilon, 1 + epsilon_high) A)     arXiv 1707.06347, 2402.03300, 2503.14476
        cispo   −sg(min(ρ, epsilon_high)) A log p                       arXiv 2506.13585; epsilon_high is the cap itself
        sapo    −4/τ σ(τ(ρ − 1)) A, τ by the sign of A                  arXiv 2511.20347; its slope at ρ = 1 is raw's
        raw     −ρ A

    With `dual_clip` c, clip's loss of a negative advantage is at most −c A (arXiv 1912.09729).

    Args:
        logprobs: [N], of the sampled tokens, with gradient.
        old_logprobs: [N], the same at the start of the rollout batch; in its first step, the detached `logprobs`.
        advantages: [N].
        row_index: [N], integers below `rows`.

    Returns:
        The loss [N], and a mask [N] of tokens whose ratio was clipped or capped; `sapo` and `raw` clip none.
    """
    old_logprobs, advantages = old_logprobs.detach(), advantages.detach()
    if spec.ratio == "sequence":
        rho = row_mean(logprobs - old_logprobs, row_index, rows).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    else:
        rho = ratio(logprobs, old_logprobs)
    if spec.surrogate == "cispo":
        clipped = (rho > spec.epsilon_high) & (advantages != 0)
        return -rho.detach().clamp(max=spec.epsilon_high) * advantages * logprobs, clipped
    if spec.surrogate == "raw":
        return -rho * advantages, torch.zeros_like(advantages, dtype=torch.bool)
    if spec.surrogate == "sapo":
        tau = torch.where(advantages > 0, spec.gate_positive, spec.gate_negative)
        return -4 / tau * torch.sigmoid(tau * (rho - 1)) * advantages, torch.zeros_like(advantages, dtype=torch.bool)
    low, high = 1 - spec.epsilon, 1 + spec.epsilon_high
    clipped = ((rho < low) & (advantages < 0)) | ((rho > high) & (advantages > 0))
    gain = torch.minimum(rho * advantages, rho.clamp(low, high) * advantages)
    if spec.dual_clip is not None:
        bounded = (advantages < 0) & (rho > spec.dual_clip)
        gain, clipped = torch.where(bounded, spec.dual_clip * advantages, gain), clipped | bounded
    return -gain, clipped


def modulated_advantages(
    advantages: Tensor, logprobs: Tensor, teacher_logprobs: Tensor, spec: PolicyGradient
) -> Tensor:
    """Advantages [N] whose size, but never their sign, depends in part on a teacher (RLSD, arXiv 2604.03128).

        A · [(1 − λ) + λ · clip(exp(sign(A) · (log q − log p)), 1 ± modulation_clip)]

    Args:
        logprobs: [N], of the sampled tokens at the start of the rollout batch, when advantages were computed.
        teacher_logprobs: [N], of the same tokens.
    """
    if not spec.modulation:
        return advantages
    favored = ratio(advantages.sign() * (teacher_logprobs - logprobs), torch.zeros_like(logprobs))
    factor = favored.clamp(1 - spec.modulation_clip, 1 + spec.modulation_clip)
    return advantages * torch.lerp(torch.ones_like(factor), factor, spec.modulation).detach()


def off_policy_terms(
    logprobs: Tensor, own: Tensor, source: Tensor, advantages: Tensor, spec: PolicyGradient
) -> tuple[Tensor, Tensor]:
    """The ratio's denominators [N] and advantages [N], if another model or prompt wrote some completions.

    Args:
        logprobs: [N], of the sampled tokens now.
        own: [N], the student's at the start of the rollout batch.
        source: [N], those under which they were written; NaN if the student wrote them from this prompt.
    """
    foreign = ~source.isnan()
    if spec.off_policy == "ratio":
        return torch.where(foreign, source, own), advantages
    if spec.off_policy == "shaped":
        now = logprobs.detach()
        rho = ratio(now, torch.where(foreign, source, now))
        shaped = advantages * rho / (rho + spec.off_policy_gamma)
        return torch.where(foreign, now, own), torch.where(foreign, shaped, advantages)
    return own, advantages


def source_statistics(logprobs: Tensor, source: Tensor) -> dict[str, Tensor]:
    """Sums of ρ = p/p_source, of ρ² and of |log ρ|, over tokens that another model or prompt wrote."""
    foreign = ~source.isnan()
    rho = torch.where(foreign, ratio(logprobs, source), 0.0)
    size = torch.where(foreign, (logprobs - source).abs(), 0.0)
    return {
        "source_tokens": foreign.sum(),
        "source_ratio_sum": rho.sum(),
        "source_square_sum": rho.square().sum(),
        "source_log_sum": size.sum(),
    }


def reference_kl(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """The k3 estimate of KL(student‖reference) on sampled tokens: e^d − d − 1 with d = log p_ref − log p; [N] → [N].

    It is never negative, and unbiased for tokens sampled from the student (arXiv 2402.03300, eq. 4).
    """
    d = (reference_logprobs.detach() - logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return d.exp() - d - 1


def squared_log_ratio(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """The k2 estimate, ½ (log p − log p_ref)², of the sampled tokens (SDPG, arXiv 2606.04036); [N] → [N].

    Its value is biased. For tokens sampled from the student, its expected gradient is that of KL(student‖reference).
    """
    return (logprobs - reference_logprobs.detach()).square() / 2
