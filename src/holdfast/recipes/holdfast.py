"""holdfast: the recipe that we recommend to begin with, a combination of what holds on to old skills."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.data.teacher_prompts import DEMONSTRATION_TEMPLATE
from holdfast.recipes.beta_opsd import BetaOPSD
from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.parts.rollouts import RolloutSpec


class Holdfast(BetaOPSD):
    """Self-distillation that holds on: β-OPSD's target, a pull to the base, and earlier tasks practiced anew.

    Rows     y ~ student(x), temperature 1.1, of the stage's prompts, and of some of earlier tasks' prompts
    Context  the demonstration, in the teacher's prompt only
    Target   ∝ b^(1 − 1/β) · q^(1/β), b the base and q the base with the demonstration in its prompt; β = 2
    Loss     w · KL(p‖target) + μ KL(b‖p) per token, w SDFT's correction of the row; mean over all tokens
    """

    name: ClassVar[str] = "holdfast"
    summary: ClassVar[str] = "Self-distillation half-way from the base to its teacher, practicing earlier tasks."
    source: ClassVar[str] = "our own, from arXiv 2607.28582 and 2609.24646; docs/recipes.md says how it was chosen"
    cost: ClassVar[str] = (
        "1 generation, 1 teacher forward, 1 base forward, 1 forward, 1 backward per prompt; from the second stage on "
        "half as much again, on earlier tasks' prompts"
    )
    when: ClassVar[str] = "To begin with: demonstrations, old skills matter, and earlier tasks' data may be kept."

    mu: float = Field(default=0.05, ge=0)
    """Coefficient of KL(base‖student), iSDFT's anchor, stronger: the divergence from the target looks at what the
    student says already, and this at what the base would say too. Of four orders on the lab it is needed on one, which
    one of two seeds does not learn without it."""
    replay_ratio: float = Field(default=0.5, ge=0)
    """Prompts of earlier tasks, sampled anew and taught like the others, per prompt of the stage."""
    buffer_size: int | None = Field(default=None, ge=1)
    """Examples kept of each earlier task, drawn by the run's seed; by default all."""
    template: str = DEMONSTRATION_TEMPLATE
    """SDFT's: demonstrations are what it is for, be they solutions or not."""

    def rollouts(self) -> RolloutSpec:
        return replace(super().rollouts(), replay_ratio=self.replay_ratio, replay_buffer_size=self.buffer_size)

    def objective(self) -> Objective:
        return replace(super().objective(), reference_kl=self.mu, reference_kl_form="forward_kl")

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        numbers = super().annotate(groups)
        rows = [row for group in groups for row in group.rows]
        for row in rows:
            row.base_kl = 1.0 if self.mu else 0.0
        return {**numbers, "replayed_fraction": sum(row.replayed for row in rows) / max(1, len(rows))}
