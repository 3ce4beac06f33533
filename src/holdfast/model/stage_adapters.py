"""An adapter for every stage, all of them stored in one: O-LoRA (arXiv 2310.14152).

The sum of adapters Σ_k B_k A_k is one adapter [B_1 … B_n] · [A_1; …; A_n] with the ranks of all added up. So the
student's adapter has that rank from the start, and stage t trains only its block: some rows of A and columns of B.
Blocks of earlier stages do not change. Blocks of later stages add nothing, because their B is still 0. Saving, merging
and sampling need no special code.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from holdfast.config.settings import ModelSettings, RunConfig
from holdfast.errors import ConfigError
from holdfast.model.policy import Policy
from holdfast.recipes.parts.penalty import OrthogonalPenalty


def adapted_model(config: RunConfig) -> ModelSettings:
    """A run's model settings, with the rank that its recipe needs.

    Raises:
        ConfigError: the recipe trains an adapter for each stage, but the run has no adapters, or weight decay.
    """
    if not isinstance(config.recipe.penalty(), OrthogonalPenalty):
        return config.model
    what = f"recipe {config.recipe.name!r} trains an adapter for each stage"
    if config.model.lora is None:
        raise ConfigError(f"{what}, but model.lora is not set", fix="set model.lora, e.g. `{r: 8}`")
    if config.train.weight_decay:
        fix = "set train.weight_decay to 0; the recipe's `norm` keeps the new adapter small"
        raise ConfigError(f"{what}, but train.weight_decay would shrink the earlier stages' adapters", fix=fix)
    stages, lora = len(config.tasks), config.model.lora
    # lora_alpha grows with r: the scale of a product is lora_alpha / r, and must not change.
    all_stages = lora.model_copy(update={"r": stages * lora.r, "lora_alpha": stages * lora.lora_alpha})
    return config.model.model_copy(update={"lora": all_stages})


class StageAdapters:
    """strength · Σ_{k<t} ‖A_k A_tᵀ‖₁ + norm · (‖A_t‖₂ + ‖B_t‖₂); gradients outside of the stage's block become 0.

    Args:
        policy: its adapter has `stages` times the rank of one stage's.
    """

    def __init__(self, spec: OrthogonalPenalty, policy: Policy, stages: int) -> None:
        self.spec, self._policy, self._stages = spec, policy, stages
        self._stage = 0

    def begin(self, stage: int, estimate: Callable[[], object]) -> None:
        self._stage = stage

    @torch.no_grad()
    def add_gradient(self) -> float:
        total = 0.0
        for name, parameter in self._policy.named_trainable().items():
            is_down = ".lora_A." in name
            # A is [r, in] and B is [out, r]; transposed, both have the rank first.
            values, gradient = (t if is_down else t.T for t in (parameter, _gradient(parameter)))
            width = len(values) // self._stages
            start, end = (self._stage - 1) * width, self._stage * width
            gradient[:start] = 0
            gradient[end:] = 0
            own, earlier = values[start:end], values[:start]
            if is_down:
                overlap = earlier @ own.T
                total += self.spec.strength * float(overlap.abs().sum())
                gradient[start:end] += self.spec.strength * overlap.sign().T @ earlier
            size = float(own.norm())
            if self.spec.norm and size:
                total += self.spec.norm * size
                gradient[start:end] += self.spec.norm / size * own
        return total

    def state(self) -> dict[str, Tensor]:
        return {}

    def like(self, name: str) -> Tensor | None:
        return None

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Do nothing: the adapter itself is all of the state."""

    def progress(self) -> dict[str, Any]:
        return {"stage": self._stage}

    def load_progress(self, saved: Mapping[str, Any]) -> None:
        self._stage = saved["stage"]


def _gradient(parameter: torch.nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
