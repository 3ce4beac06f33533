"""The objective without the model: from final hidden states [N, H] and an output head [V, H] to their gradients.

Ours is `fused_loss_and_statistics`. The peers are TRL's loss functions on whole logits, as its SDFT and SDPO trainers
call them; TRL's chunked kernels of its distillation trainer (`trl_chunked`) and of its GRPO trainer; and Liger's fused
losses, compiled, which is their default. All return the mean over tokens. Hidden states and head get gradients.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.engine.measure import Side
from holdfast.data.example import Example
from holdfast.data.rows import Row
from holdfast.objective.batch import Batch, row_coefficients
from holdfast.objective.fused.loss import fused_loss_and_statistics
from holdfast.objective.head import TensorHead
from holdfast.objective.signals import HiddenSignal
from holdfast.recipes.parts.objective import Objective, PolicyGradient

ROW_TOKENS = 128
"""Tokens of every row; N is a multiple of it."""

OBJECTIVES = {
    "jsd": Objective(divergence="jsd", support="full"),
    "forward_kl": Objective(divergence="forward_kl", support="full"),
    "topk": Objective(divergence="jsd", support="topk_renormalized", top_k=100),
    "policy_gradient": Objective(aggregation="token_mean", policy_gradient=PolicyGradient()),
}

PEERS = {
    "jsd": ("trl", "trl_chunked", "liger"),
    "forward_kl": ("trl", "trl_chunked", "liger"),
    "topk": ("trl",),
    "policy_gradient": ("trl", "liger"),
}
"""The peers that implement each objective."""


@dataclass
class Inputs:
    """Random inputs. They are equal on both sides, because the seed is fixed."""

    hidden: Tensor
    weight: Tensor
    teacher: Tensor
    ids: Tensor
    advantages: Tensor
    """One per row."""

    @classmethod
    def of(cls, job: dict[str, Any]) -> "Inputs":
        tokens, width, vocabulary = job["tokens"], job["width"], job["vocabulary"]
        dtype, device = getattr(torch, job["dtype"]), job["device"]
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        hidden = normal(tokens, width)
        teacher = hidden + 0.5 * normal(tokens, width)
        ids = torch.randint(vocabulary, (tokens,), generator=generator)
        rows = tokens // ROW_TOKENS
        return cls(
            hidden=hidden.to(device, dtype).requires_grad_(),
            weight=(0.05 * normal(vocabulary, width)).to(device, dtype).requires_grad_(),
            teacher=teacher.to(device, dtype),
            ids=ids.to(device),
            advantages=torch.where(torch.arange(rows) % 2 == 0, 1.0, -0.5).to(device),
        )


class Loss:
    """A loss as a function of the inputs, with its gradients."""

    def __init__(self, inputs: Inputs, loss: Callable[[Inputs], Tensor]) -> None:
        self.inputs, self.loss = inputs, loss

    def run(self) -> dict[str, float]:
        loss = self.loss(self.inputs)
        loss.backward()
        gradients = [tensor.grad for tensor in (self.inputs.hidden, self.inputs.weight) if tensor.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self.inputs.hidden.grad = self.inputs.weight.grad = None
        return {"loss": loss.item(), "grad_norm": norm.item()}


def ours(job: dict[str, Any]) -> Side:
    """This project's side of a job made by `job_of`."""
    inputs, objective = Inputs.of(job), OBJECTIVES[job["objective"]]
    example = Example(id="benchmark", messages=())
    rows = []
    for ids, advantage in zip(inputs.ids.view(-1, ROW_TOKENS).tolist(), inputs.advantages.tolist(), strict=True):
        row = Row(example=example, prompt_ids=[0], completion_ids=ids)
        if objective.policy_gradient is None:
            row.div = 1.0
        else:
            row.advantage = advantage
        rows.append(row)
    batch = Batch.from_rows(rows, row_coefficients(rows, objective, ROW_TOKENS), job["device"])
    head = TensorHead(inputs.weight)
    frozen = TensorHead(inputs.weight.detach())

    def loss(given: Inputs) -> Tensor:
        teacher = HiddenSignal(given.teacher, frozen) if objective.policy_gradient is None else None
        return fused_loss_and_statistics(given.hidden, head, batch, objective, teacher)[0]

    return Loss(inputs, loss)


def trl(job: dict[str, Any]) -> Side:
    """TRL's loss functions of the SDFT and SDPO trainers on whole logits; for the policy gradient, GRPO's kernel."""
    from trl.experimental.sdft import loss_utils

    name = job["objective"]
    if name == "policy_gradient":
        return Loss(Inputs.of(job), _trl_policy_gradient)

    def loss(given: Inputs) -> Tensor:
        temperature = 1.0
        # In float32 as accelerate returns them, and divided by a temperature of 1 too, as in `_forward_logits`.
        student = (given.hidden @ given.weight.T).float()[None] / temperature
        with torch.no_grad():
            teacher = (given.teacher @ given.weight.T).float()[None] / temperature
        if name == "topk":
            return loss_utils.compute_topk_self_distillation_loss(
                student, teacher, distillation_topk=100, distillation_alpha=0.5, distillation_add_tail=False
            ).mean()
        alpha = 0.5 if name == "jsd" else 0.0
        return loss_utils.compute_full_logit_self_distillation_loss(student, teacher, distillation_alpha=alpha).mean()

    return Loss(Inputs.of(job), loss)


def _trl_policy_gradient(given: Inputs) -> Tensor:
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    logprobs, *_ = ChunkedLogProbFunction.apply(
        given.hidden,
        given.weight,
        None,
        given.ids,
        1.0,
        _CHUNKED_LOGPROB_CHUNK_SIZE,
        None,
        1.0,
        ("log_probs", "entropy"),
    )
    logprobs = logprobs.view(-1, ROW_TOKENS)
    ratio = torch.exp(logprobs - logprobs.detach())
    advantages = given.advantages[:, None]
    return -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()


def trl_chunked(job: dict[str, Any]) -> Side:
    """`ChunkedDivergenceFunction`, of TRL's distillation trainer."""
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    beta = 0.5 if job["objective"] == "jsd" else 0.0

    def loss(given: Inputs) -> Tensor:
        divergence, _ = ChunkedDivergenceFunction.apply(
            given.hidden, given.weight, None, given.teacher, given.weight.detach(), None, beta
        )
        return divergence.mean()

    return Loss(Inputs.of(job), loss)


def liger(job: dict[str, Any]) -> Side:
    """Liger's fused linear losses; compiled, which is their default, if there is a compiler."""
    from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss, LigerFusedLinearJSDLoss

    compiled = job["device"] != "cpu" or shutil.which("g++") is not None
    inputs = Inputs.of(job)
    if job["objective"] == "policy_gradient":
        surrogate = LigerFusedLinearGRPOLoss(beta=0.0, compiled=compiled, loss_type="dapo", use_ref_model=False)
        mask = torch.ones(inputs.ids.view(-1, ROW_TOKENS).shape, device=inputs.ids.device)

        def policy_gradient(given: Inputs) -> Tensor:
            hidden = given.hidden.view(-1, ROW_TOKENS, given.hidden.shape[-1])
            ids = given.ids.view(-1, ROW_TOKENS)
            loss: Tensor = surrogate(hidden, given.weight, ids, mask, given.advantages)[0]
            return loss

        return Loss(inputs, policy_gradient)
    beta = 0.5 if job["objective"] == "jsd" else 0.0
    fused = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, compiled=compiled)

    def divergence(given: Inputs) -> Tensor:
        loss: Tensor = fused(given.hidden, given.weight, given.teacher, given.weight.detach(), given.ids)
        return loss

    return Loss(inputs, divergence)


def job_of(objective: str, *, tokens: int, vocabulary: int, width: int, dtype: str, device: str) -> dict[str, Any]:
    """The part of a job that all sides share; add `side`."""
    return {
        "objective": objective,
        "tokens": tokens,
        "vocabulary": vocabulary,
        "width": width,
        "dtype": dtype,
        "device": device,
    }
