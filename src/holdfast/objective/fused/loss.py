"""The loss straight from hidden states and the output head, and its gradients with it: the fused form.

The same value, gradients and statistics as `holdfast.objective.loss`, which is their definition, but no tensor of
tokens × vocabulary is alive beyond a chunk of tokens. A chunk is projected onto the vocabulary, turned into
log-probabilities in place, measured, and then into the loss's gradient in its logits, again in place; two matrix
products carry this to the hidden states and to the head. So the gradients are formed in the forward pass, and the
backward pass hands them out.

Whatever follows from the sampled tokens' log-probabilities alone, or from the entries of a top-k support, is small:
there the readable form itself is run and differentiated. Sums over the whole vocabulary have closed forms, see
`holdfast.objective.fused.gradients`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from holdfast.objective.batch import Batch
from holdfast.objective.fused.chunks import ChunkedLoss
from holdfast.objective.fused.head import check_head
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
        head: the output head; a weight or bias that is frozen costs nothing.
        teacher, base: what they say at the same N tokens; only read where a row asks.
        chunk_tokens: tokens at a time; by default as many as `CHUNK_BYTES` hold, and at least `LEAST_CHUNK`.

    Raises:
        ModelError: an output head is more than a linear layer with a scale and a soft cap.
        ValueError: rows are annotated for a component that the objective or the caller has not provided.
    """
    check_components(batch, objective, teacher, base)
    check_head(head)
    if objective.reads_teacher_tokens and teacher is not None:
        batch = batch.told(sampled_logprobs(teacher, batch.ids, objective.temperature), objective)
    if objective.reads_teacher_confidence and teacher is not None:
        batch = batch.confided(teacher_confidence(teacher, objective))
    for signal in (teacher, base):
        if isinstance(signal, HiddenSignal):
            check_head(signal.head)
    work = ChunkedLoss(hidden.to(head.weight.dtype), head, batch, objective, teacher, base, chunk_tokens)
    loss = _Fused.apply(work.hidden, head.weight, head.bias, work, torch.is_grad_enabled())
    return loss, work.statistics


class _Fused(torch.autograd.Function):
    """From hidden states, weight and bias to the loss; the backward pass scales what the forward pass has formed."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, work: ChunkedLoss, grad: bool) -> Tensor:
        in_hidden, in_weight, in_bias = (grad and needed for needed in ctx.needs_input_grad[:3])
        loss, ctx.gradients = work.run((in_hidden, in_weight, in_bias))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the fused loss has handed out its gradients; it can be differentiated once")
        gradients, ctx.gradients = ctx.gradients, None
        return *(g if g is None else g.mul_(grad_output) for g in gradients), None, None
