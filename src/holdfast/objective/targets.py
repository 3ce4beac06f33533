"""The target of a divergence: the teacher, or a mix of the teacher with an anchor; the readable definition.

All targets have one form: a geometric mix of distributions [N, V], normalized over the whole vocabulary.

    target ∝ anchor^(1−λ) · teacher^λ

    target       anchor            λ
    teacher      –                 1
    geometric    student or base   a setting. β-OPSD (arXiv 2607.28582): 1/β ≤ 1 with the base. SDPO's trust-region
                                   teacher: the teacher's share in it. G-OPD (arXiv 2602.12125): 1.25, which goes
                                   beyond the teacher
    partial      student           chosen for every token (iSDFT, arXiv 2609.24646)

Targets are detached, and so is the student in them.
"""

import torch
from torch import Tensor

from holdfast.recipes.parts.objective import Objective

BISECTIONS = 40
"""Halvings of the interval that contains λ, as in iSDFT's code. 2^−40 is finer than float32 resolves."""


def geometric_mix(anchor: Tensor, teacher: Tensor, weight: float | Tensor) -> Tensor:
    """Log-probabilities of the distribution ∝ anchor^(1−weight) · teacher^weight over the last dimension."""
    return torch.log_softmax((1 - weight) * anchor + weight * teacher, dim=-1)


def partial_weight(student: Tensor, teacher: Tensor, fraction: float) -> Tensor:
    """λ [N] of the mix that is nearest to the student and makes the given fraction of the teacher's improvement on it.

    With s the student and q the teacher, q* is the distribution that minimizes KL(q*‖s) under
    E_q*[log q − log s] ≥ fraction · KL(q‖s). It is the geometric mix whose G(λ) = E_mix(λ)[log q − log s] equals that
    bound. G rises from −KL(s‖q) at λ = 0 to KL(q‖s) at λ = 1, so bisection finds it. The fraction is one of the
    improvement; λ is another number.
    """
    gap = teacher - student
    wanted = fraction * (teacher.exp() * gap).sum(-1)
    low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        mix = geometric_mix(student, teacher, middle.unsqueeze(-1))
        enough = (mix.exp() * gap).sum(-1) >= wanted
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high


def target_log_probs(student: Tensor, teacher: Tensor, base: Tensor | None, objective: Objective) -> Tensor:
    """The objective's target as log-probabilities [N, V], detached.

    Args:
        student, teacher: log-probabilities [N, V], temperature applied.
        base: the base's, likewise; read only if it is the anchor.
    """
    student, teacher = student.detach(), teacher.detach()
    if objective.target == "teacher":
        return teacher
    if objective.target == "partial":
        weight = partial_weight(student, teacher, objective.target_fraction)
        return geometric_mix(student, teacher, weight.unsqueeze(-1))
    if objective.anchor == "student":
        return geometric_mix(student, teacher, objective.target_weight)
    if base is None:
        raise ValueError("the target is anchored to the base, but there are no base logits; pass them")
    return geometric_mix(base.detach(), teacher, objective.target_weight)
