"""What the chunks measure at every token, and the loss and statistics that follow from it.

The measurements are N numbers each, so they are kept for all tokens. When the last chunk is done, the readable form's
own functions reduce them. A loss that averages over rows is therefore exact, however the rows were cut.
"""

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from holdfast.objective.batch import Batch
from holdfast.objective.fused.plan import LossPlan
from holdfast.objective.loss import reference_terms, sampled_terms
from holdfast.objective.signals import HiddenSignal, Signal, SparseSignal


@dataclass(frozen=True, slots=True)
class TokenMeasurements:
    """Detached tensors [N] in the plan's dtype; 0 at tokens where something is not measured. In nats."""

    logprobs: Tensor
    """log p of the sampled tokens."""
    base_logprobs: Tensor
    """The base's log-probabilities of them."""
    entropy: Tensor
    teacher_kl: Tensor
    """KL(student‖teacher), whatever the divergence that is trained on."""
    teacher_entropy: Tensor
    student_entropy: Tensor
    """Over the student's most likely entries, if weights depend on it."""
    agreed: Tensor
    """1 if student and teacher have the same most likely token."""
    divergence: Tensor
    """The value that is trained on."""
    clipped_share: Tensor
    """The share of the divergence's summands that the objective's `clip` changes."""
    base_kl: Tensor
    """KL(base‖student)."""
    trained_base_kl: Tensor
    """The same in the objective's form, at its temperature and perhaps without the token: the value that is trained
    on."""

    @classmethod
    def zeros(cls, like: Tensor, tokens: int, dtype: torch.dtype) -> Self:
        return cls(*like.new_zeros(len(fields(cls)), tokens, dtype=dtype))


def reduce(
    measured: TokenMeasurements, plan: LossPlan, batch: Batch, teacher: Signal | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, a scalar, and the statistics of `holdfast.objective.loss.loss_and_statistics`."""
    objective = plan.objective
    batch = replace(batch, student_entropy=measured.student_entropy)
    terms = sampled_terms(measured.logprobs, batch, objective)
    token_loss = terms.loss + terms.div * measured.divergence
    statistics = {"entropy_sum": measured.entropy.sum(), **terms.statistics}
    if any(group.distilled for group in plan.groups):
        teacher_entropy = teacher.entropy if isinstance(teacher, SparseSignal) else measured.teacher_entropy
        distilled = batch.div != 0
        statistics["teacher_tokens"] = distilled.sum()
        # A kept signal may have anything at tokens that do not ask for it, NaN included.
        statistics["teacher_entropy_sum"] = torch.where(distilled, teacher_entropy, 0.0).sum()
        statistics["agreed"] = measured.agreed.sum()
        if isinstance(teacher, HiddenSignal):
            statistics["teacher_kl_sum"] = measured.teacher_kl.sum()
        if objective.clip != "none":
            statistics["clipped_tokens"] = (measured.clipped_share > 0).sum()
            statistics["clipped_share_sum"] = measured.clipped_share.sum()
    if plan.reference == "sampled":
        loss, numbers = reference_terms(measured.logprobs, measured.base_logprobs, batch, objective)
        token_loss = token_loss + loss
        statistics |= numbers
    elif plan.reference == "forward_kl":
        token_loss = token_loss + objective.reference_kl * batch.base_kl * measured.trained_base_kl
        statistics |= {
            "anchored_tokens": (batch.base_kl != 0).sum(),
            "base_forward_kl_sum": measured.base_kl.sum(),
        }
    return (batch.coef * token_loss).sum(), statistics
