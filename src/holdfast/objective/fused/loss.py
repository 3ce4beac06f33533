"""The fused loss: value, gradients and statistics from hidden states and the output head.

They equal those of `holdfast.objective.loss`, which is their definition, to rounding. But no tensor of tokens ×
vocabulary is alive for more than a chunk of tokens. A chunk is projected onto the vocabulary, turned into
log-probabilities in place, measured, and then overwritten with the loss's gradient in its logits. Two matrix products
carry this gradient to the hidden states and to the head. So the forward pass forms the gradients, and the backward pass
hands them out.

What follows from the sampled tokens' log-probabilities, or from the entries of a top-k support, is small. There the
readable form itself is run and differentiated. Sums over the whole vocabulary have closed forms.

    plan            what the loss needs, at which tokens, in which chunks
    workspace       the memory that chunks share
    head            the output head and its gradients
    distributions   log-probabilities of student, teacher, target and base
    gradients       closed forms of divergences over the vocabulary
    measurements    numbers per token, and the loss that they add up to
    chunks          the pass over chunks, which uses all of these
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from holdfast.objective.batch import Batch
from holdfast.objective.fused.chunks import ChunkedLoss
from holdfast.objective.fused.head import check_head
from holdfast.objective.fused.plan import plan_loss
from holdfast.objective.head import Head
from holdfast.objective.loss import check_components
from holdfast.objective.signals import HiddenSignal, Signal, sampled_logprobs, teacher_confidence
from holdfast.recipes.parts.objective import Objective


def fused_loss_and_statistics(
    hidden: Tensor,
    head: Head,
    batch: Batch,
    objective: Objective,
    teacher: Signal | None = None,
    base: Signal | None = None,
    *,
    chunk_tokens: int | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """`loss_and_statistics` from hidden states: the same value, gradients and statistics, to rounding.

    Args:
        hidden: [N, H], final hidden states at the loss tokens.
        head: the output head. A weight or bias without gradient costs neither time nor memory.
        teacher, base: their signals at the same N tokens; read only at tokens of rows that ask for them.
        chunk_tokens: tokens of a chunk; by default as many as `CHUNK_BYTES` hold, and at least `LEAST_CHUNK`.

    Raises:
        ModelError: an output head is more than a linear layer with a scale and a soft cap.
        ValueError: rows are annotated for a component that the objective or the caller does not provide.
    """
    check_components(batch, objective, teacher, base)
    check_head(head)
    if objective.reads_teacher_tokens and teacher is not None:
        batch = batch.with_teacher_logprobs(sampled_logprobs(teacher, batch.ids, objective.temperature), objective)
    if objective.reads_teacher_confidence and teacher is not None:
        batch = batch.with_teacher_confidence(teacher_confidence(teacher, objective))
    for signal in (teacher, base):
        if isinstance(signal, HiddenSignal):
            check_head(signal.head)
    hidden = hidden.to(head.weight.dtype)
    grad = torch.is_grad_enabled()
    needed = tuple(grad and t is not None and t.requires_grad for t in (hidden, head.weight, head.bias))
    plan = plan_loss(
        hidden,
        head,
        batch,
        objective,
        teacher,
        base,
        gradients=(needed[0], needed[1], needed[2]),
        chunk_tokens=chunk_tokens,
    )
    work = ChunkedLoss(plan, hidden, head, batch, teacher, base)
    return _FusedLoss.apply(hidden, head.weight, head.bias, work)


def _needs_gradient(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.requires_grad and torch.is_grad_enabled()


class _FusedLoss(torch.autograd.Function):
    """From hidden states, weight and bias to loss and statistics.

    The forward pass forms the gradients for a loss that counts once. The backward pass scales them.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, work: ChunkedLoss
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss, statistics, ctx.gradients = work.run()
        return loss, statistics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, _: None) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the fused loss has handed out its gradients; it can be differentiated once")
        # Scaled in place, because the head's gradient can be the largest tensor of a step.
        gradients, ctx.gradients = ctx.gradients, None
        return *(g if g is None else g.mul_(grad_output) for g in gradients), None
