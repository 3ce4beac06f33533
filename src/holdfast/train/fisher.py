"""The Fisher information of a model's weights, from sequences."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from holdfast.config.settings import TrainSettings
from holdfast.data.rows import Row
from holdfast.model.policy import Policy
from holdfast.recipes.parts.objective import Objective
from holdfast.train.step import StageTrainer


def fisher_information(
    policy: Policy, rows: Sequence[Row], settings: TrainSettings, poll: Callable[[], None] = lambda: None
) -> dict[str, Tensor]:
    """The diagonal E[(∂ log π(y|x)/∂θ_i)²], by parameter and in its shape; empty without rows.

    Every sequence has its own backward pass, because the square of a sum is not the sum of squares.

    Args:
        rows: sequences y after prompts x. log π is the sum over a row's loss tokens.
        poll: called before every sequence; it may raise.
    """
    trainer = StageTrainer(policy, None, None, Objective(), settings)
    trainer.poll = poll
    trainer.optimizer.zero_grad(set_to_none=True)
    fisher: dict[str, Tensor] = {}
    rows = [row for row in rows if row.loss_positions()]
    for row in rows:
        trainer.forward_backward([replace(row, ce=1.0)], where="Fisher information")
        tokens = len(row.loss_positions())  # the loss is the mean over tokens, and log π the sum
        with torch.no_grad():
            for name, parameter in trainer.parameters.items():
                if parameter.grad is None:
                    continue
                gradient = tokens * parameter.grad
                fisher.setdefault(name, torch.zeros_like(parameter)).addcmul_(gradient, gradient, value=1 / len(rows))
        trainer.optimizer.zero_grad(set_to_none=True)
    return {name: value.detach() for name, value in fisher.items()}
