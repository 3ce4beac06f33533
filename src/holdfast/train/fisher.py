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
    """E[(∂ log π(y|x)/∂θ_i)²], its diagonal, by parameter and in its shape; empty for no rows.

    Each sequence's gradient is taken on its own, for the square of a sum is not the sum of squares.

    Args:
        rows: sequences; log π is the sum over their loss tokens.
        poll: called before every sequence; may raise.
    """
    trainer = StageTrainer(policy, None, None, Objective(), settings)
    trainer.poll = poll
    trainer.optimizer.zero_grad(set_to_none=True)
    found: dict[str, Tensor] = {}
    said = [row for row in rows if row.loss_positions()]
    for row in said:
        trainer.forward_backward([replace(row, ce=1.0)], where="Fisher information")
        tokens = len(row.loss_positions())  # the loss is their mean
        with torch.no_grad():
            for name, parameter in trainer.parameters.items():
                if parameter.grad is None:
                    continue
                gradient = tokens * parameter.grad
                found.setdefault(name, torch.zeros_like(parameter)).addcmul_(gradient, gradient, value=1 / len(said))
        trainer.optimizer.zero_grad(set_to_none=True)
    return {name: value.detach() for name, value in found.items()}
