"""SFT, then GRPO: imitate demonstrations for some steps, then learn from rewards."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.recipes.grpo import GRPO
from holdfast.recipes.parts.controllers import Controller, Until
from holdfast.recipes.parts.rollouts import RolloutSpec


class SFTThenGRPO(GRPO):
    """Supervised fine-tuning, then reinforcement learning: the usual pipeline, within each stage.

    Rows     the demonstration of each prompt for the first steps of a stage; then y_1..y_8 ~ student(x), judged
    Loss     −log p(y_t | x, y_<t) on demonstrations, then GRPO's on samples
    """

    name: ClassVar[str] = "sft_then_grpo"
    needs: ClassVar[frozenset[str]] = frozenset({"demonstration", "reward"})
    summary: ClassVar[str] = "Imitate demonstrations for some steps, then learn from rewards."
    source: ClassVar[str] = "the baseline of ActGuide-RL, arXiv 2605.12004, and of many others"
    cost: ClassVar[str] = "as sft for the first steps, but samples are drawn and logged there too; then as grpo"
    when: ClassVar[str] = "Demonstrations and a verifier, if GRPO has no successes at first. It forgets as SFT does."

    sft_steps: int = Field(default=10, ge=0)
    """Optimizer steps of imitation at the start of a stage."""
    imitation: float = Field(default=1.0, ge=0, le=1)
    """Weight of demonstrations during the first `sft_steps`; afterwards it is 0, and samples count instead."""

    def rollouts(self) -> RolloutSpec:
        return replace(super().rollouts(), with_demonstration=True)

    def controllers(self) -> dict[str, Controller]:
        return {"imitation": Until(self.imitation, 0.0, self.sft_steps)}

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        sampled = [group.sampled() for group in groups]
        metrics = super().annotate(sampled)
        for row in (row for group in groups for row in group.rows):
            row.ce = 0.0 if row.is_sampled else self.imitation
            row.excluded |= row.is_sampled if self.imitation else not row.is_sampled
        return metrics
