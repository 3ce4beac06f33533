"""RaPO: GRPO with a reward for staying close to the model of the stage before."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from holdfast.data.rows import Group, Row
from holdfast.recipes.base.conditions import Condition
from holdfast.recipes.grpo import GRPO, reward_std
from holdfast.recipes.parts.controllers import Controller, LastSeen
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.recipes.parts.teacher import TeacherSpec


class RaPO(GRPO):
    """Retention-aware policy optimization (arXiv 2605.09640).

    Rows     y_1..y_8 ~ student(x), temperature 1, judged by the verifier
    Reward   from the second stage on R'_i = R_i + λ · exp(−α d_i), d_i = max(0, mean over t of log p/p_prev);
             p_prev is the model at the stage's start
    Signal   A_i = (R'_i − mean of its group) / (s + 1e-4); s ← β s + (1−β) · std of the batch's R', over all stages,
             from the std of the first batch whose rewards differ; a group with |A_i| > 5 is divided by its own std
    Loss     GRPO's, + beta · k3 estimate of KL to the base
    """

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "std_decay": ({"scale_rewards": ("running",)},),
        "largest_advantage": ({"scale_rewards": ("running",)},),
        "running_std": ({"scale_rewards": ("running",)},),
    }

    name: ClassVar[str] = "rapo"
    summary: ClassVar[str] = "GRPO that also rewards answers which the model before the stage would have given."
    source: ClassVar[str] = "Overcoming Catastrophic Forgetting with Reinforcement Fine-Tuning, arXiv 2605.09640"
    cost: ClassVar[str] = (
        "8 generations per prompt; 1 forward of the model before the stage per generation; base forward, forward and "
        "backward per row with signal"
    )
    when: ClassVar[str] = "Several tasks with verifiers, and no data of earlier ones may be kept."

    beta: float = Field(default=2e-3, ge=0)
    scale_rewards: Literal["running", "group", "batch", "none"] = "running"  # type: ignore[assignment]
    """Divide advantages by the running standard deviation s, or as in `grpo`."""
    retention: float = Field(default=0.5, ge=0)
    """λ, the largest reward for staying close."""
    drift_scale: float = Field(default=20.0, gt=0)
    """α: at a drift of 1/α nats per token, 37% of that reward are left. On the lab a new task is learned at a drift of
    0.6, where the paper's 20 leaves 6e-6. Take a smaller one if `drift` in the log is far above 0.05."""
    std_decay: float = Field(default=0.999, ge=0, lt=1)
    """β of the running standard deviation of rewards. The released code begins with it in the second stage, starts it
    again at every stage from the last batch's, and lets β rise from 0.9 in a stage's first two steps."""
    largest_advantage: float = Field(default=5.0, gt=0)
    """A group with a larger advantage is divided by its own standard deviation instead. The bound is the released
    code's."""
    running_std: float = Field(default=0.0, ge=0)
    """s before the first batch; 0 is not known yet. The run carries it from step to step and from stage to stage."""

    def rollouts(self) -> RolloutSpec:
        return replace(super().rollouts(), scored_from_stage=2)

    def teacher(self) -> TeacherSpec:
        """The model at the stage's start, which scores samples before they are annotated."""
        return TeacherSpec(kind="frozen", stage_start="student")

    def controllers(self) -> dict[str, Controller]:
        return {"running_std": LastSeen("reward_std_average", self.running_std)}

    def signal(self) -> str:
        return "policy gradient, with a reward for staying close to the model before the stage"

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        drifts = [drift(row) for group in groups for row in group.rows if row.teacher_logprobs is not None]
        shaped = [[self._shaped(row) for row in group.rows] for group in groups]
        now = reward_std([reward for rewards in shaped for reward in rewards])
        average = self.std_decay * self.running_std + (1 - self.std_decay) * now if self.running_std else now
        silent = 0
        for group, rewards in zip(groups, shaped, strict=True):
            own = reward_std(rewards)
            silent += own == 0
            centered = [reward - float(np.mean(rewards)) for reward in rewards]
            scales = {"running": average + 1e-4, "group": own + 1e-4, "batch": now + 1e-4, "none": 1.0}
            scale = scales[self.scale_rewards]
            if self.scale_rewards == "running" and max(map(abs, centered)) / scale > self.largest_advantage:
                scale = scales["group"]
            for row, value in zip(group.rows, centered, strict=True):
                row.excluded = self.mask_truncated_completions and row.truncated
                if not row.excluded:
                    row.advantage = value / scale if own else 0.0
                    row.base_kl = 1.0 if self.beta else 0.0
        return {
            "zero_variance_fraction": silent / max(1, len(groups)),
            "reward_std_average": average,
            "drift": sum(drifts) / len(drifts) if drifts else 0.0,
        }

    def _shaped(self, row: Row) -> float:
        kept = 0.0 if row.teacher_logprobs is None else math.exp(-self.drift_scale * drift(row))
        return row.reward + self.retention * kept


def drift(row: Row) -> float:
    """max(0, mean of log p(y_t) − log p_prev(y_t)) over a sample's own tokens, in nats per token."""
    assert row.sampled_logprobs is not None
    assert row.teacher_logprobs is not None
    own = [row.sampled_logprobs[t] for t in row.loss_positions()]
    gaps = [p - before for p, before in zip(own, row.teacher_logprobs, strict=True)]
    return max(0.0, sum(gaps) / max(1, len(gaps)))
