"""GRPO: reinforce samples with a higher reward than their siblings."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from holdfast.data.rows import Group
from holdfast.recipes.base.conditions import Condition
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.objective import Aggregation, Objective, PolicyGradient, RatioLevel, Surrogate
from holdfast.recipes.parts.rollouts import RolloutSpec

VARIANTS: dict[str, dict[str, Any]] = {
    "grpo": {},
    "dr_grpo": {"aggregation": "constant", "scale_rewards": "none"},
    "dapo": {"aggregation": "token_mean", "epsilon_high": 0.28, "mask_truncated_completions": True},
    "gspo": {"ratio": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    "cispo": {"surrogate": "cispo", "aggregation": "token_mean", "epsilon_high": 5.0},
}
"""The settings that each published variant changes; your own settings override them.

DAPO is here without its soft length penalty and without dynamic sampling: a group without variance counts, with 0.
"""


class GRPO(Recipe):
    """Group Relative Policy Optimization (arXiv 2402.03300) and its variants, as independent settings.

    Rows     y_1..y_8 ~ student(x), temperature 1, judged by the verifier
    Signal   A_i = (R_i − mean R) / (std R + 1e-4); 0 in groups without variance
    Loss     −min(ρ A, clip(ρ, 1−ε, 1+ε_high) A) per token, ρ = p/p_old, and at most −c A if A < 0, for a dual clip c;
             + beta · k3 estimate of KL to the base, on every row
    """

    name: ClassVar[str] = "grpo"
    needs: ClassVar[frozenset[str]] = frozenset({"reward"})
    summary: ClassVar[str] = "Learn from rewards: reinforce samples with a higher reward than their siblings."
    source: ClassVar[str] = "DeepSeekMath, arXiv 2402.03300; variants: 2503.20783, 2503.14476, 2507.18071, 2506.13585"
    cost: ClassVar[str] = (
        "8 generations per prompt; 1 forward, 1 backward per row with signal; with beta > 0 a base forward"
    )
    when: ClassVar[str] = (
        "A verifier and no demonstrations. Slow, forgets little, and needs some successes among samples."
    )

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {"dual_clip": ({"surrogate": ("clip",)},)}

    variant: Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo"] = "grpo"
    """A published variant: it sets the defaults of the settings below."""
    num_generations: int = Field(default=8, ge=2)
    """Samples per prompt."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Divide advantages by the standard deviation of the group's rewards, of the batch's, or not at all."""
    ratio: RatioLevel = "token"
    """One importance ratio per token, or one per sequence."""
    surrogate: Surrogate = "clip"
    """The surrogate of the policy gradient."""
    epsilon: float = Field(default=0.2, gt=0)
    """How far below 1 the ratio may fall."""
    epsilon_high: float = Field(default=0.2, gt=0)
    """How far above 1 the ratio may rise; with `surrogate: cispo`, the cap on the ratio itself."""
    dual_clip: float | None = Field(default=None, gt=1)
    """Bound of the loss at a negative advantage, in units of −A (arXiv 1912.09729); none for no bound."""
    aggregation: Aggregation = "sequence_mean"
    """How the loss is averaged over tokens and rows."""
    mask_truncated_completions: bool = False
    """Leave truncated completions out of the loss."""
    beta: float = Field(default=0.0, ge=0)
    """Coefficient of the KL to the base; 0 as in TRL."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature."""
    num_iterations: int = Field(default=1, ge=1)
    """Optimizer steps per rollout batch."""
    importance_cap: float = Field(default=2.0, ge=1)
    """Cap on the correction for the mismatch of sampler and trainer."""

    @model_validator(mode="before")
    @classmethod
    def _variant_defaults(cls, values: Any) -> Any:
        variant = values.get("variant") if isinstance(values, dict) else None
        return {**VARIANTS.get(variant, {}), **values} if isinstance(variant, str) else values

    def rollouts(self) -> RolloutSpec:
        return RolloutSpec(
            source="student",
            num_generations=self.num_generations,
            temperature=self.temperature,
            num_iterations=self.num_iterations,
        )

    def objective(self) -> Objective:
        return Objective(
            aggregation=self.aggregation,
            policy_gradient=PolicyGradient(
                ratio=self.ratio,
                surrogate=self.surrogate,
                epsilon=self.epsilon,
                epsilon_high=self.epsilon_high,
                dual_clip=self.dual_clip if self.surrogate == "clip" else None,
            ),
            importance="token",
            importance_cap=self.importance_cap,
            temperature=self.temperature,
            reference_kl=self.beta,
        )

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        batch_std = reward_std([row.reward for group in groups for row in group.rows])
        silent = 0
        for group in groups:
            rewards = [row.reward for row in group.rows]
            mean, std = float(np.mean(rewards)), reward_std(rewards)
            silent += std == 0
            scale = {"group": std + 1e-4, "batch": batch_std + 1e-4, "none": 1.0}[self.scale_rewards]
            for row in group.rows:
                row.excluded = self.mask_truncated_completions and row.truncated
                if row.excluded:
                    continue
                row.advantage = (row.reward - mean) / scale if std else 0.0
                row.base_kl = 1.0 if self.beta else 0.0
        return {"zero_variance_fraction": silent / max(1, len(groups))}


def reward_std(rewards: Sequence[float]) -> float:
    """Sample standard deviation; exactly 0 if all are equal. The rounding of the mean would otherwise hide that."""
    return float(np.std(rewards, ddof=1)) if len(set(rewards)) > 1 else 0.0
