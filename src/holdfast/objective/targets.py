"""What the student is drawn toward: the teacher, or a mix of the teacher with an anchor; the readable definition.

All targets have one form, a geometric mix of log-probabilities [N, V], normalized over the whole vocabulary:

    target ∝ anchor^(1−λ) · teacher^λ

    target       anchor            λ
    teacher      –                 1
    geometric    student or base   given: β-OPSD (arXiv 2607.28582) 1/β ≤ 1 with the base; SDPO's trust-region teacher
                                   the share of the teacher in it; G-OPD (arXiv 2602.12125) 1.25, beyond the teacher
    partial      student           chosen for every token (iSDFT, arXiv 2609.24646)

Targets are detached, the student in them too.
"""

import torch
from torch import Tensor

from holdfast.recipes.parts.objective import Objective

BISECTIONS = 40
"""Halvings of the interval that λ lies in, as in iSDFT's code; more than fp32 can tell apart."""


def geometric_mix(anchor: Tensor, teacher: Tensor, weight: float | Tensor) -> Tensor:
    """Log-probabilities of the distribution ∝ anchor^(1−weight) · teacher^weight over the last dimension."""
    return torch.log_softmax((1 - weight) * anchor + weight * teacher, dim=-1)


def partial_weight(student: Tensor, teacher: Tensor, fraction: float) -> Tensor:
    """λ [N] of the mix nearest to the student that makes the given part of the teacher's improvement on it.

    The distribution q* that minimizes KL(q*‖s) under E_q*[log q − log s] ≥ fraction · KL(q‖s), with s the student and q
    the teacher, is the mix whose G(λ) = E_mix(λ)[log q − log s] meets that bound. G rises from −KL(s‖q) at 0 to KL(q‖s)
    at 1, and is halved upon; the fraction is one of improvement, and not λ.
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
        base: the base's, likewise; read only where it is the anchor.
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
        raise ValueError("the target is anchored to the base, but there are no base logits")
    return geometric_mix(base.detach(), teacher, objective.target_weight)
