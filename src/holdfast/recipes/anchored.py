"""anchored: self-distillation that stays near the base. The recipe that we recommend first."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.data.teacher_prompts import DEMONSTRATION_TEMPLATE
from holdfast.recipes.beta_opsd import BetaOPSD
from holdfast.recipes.parts.objective import Objective


class Anchored(BetaOPSD):
    """Self-distillation anchored to the base: β-OPSD's target, a KL to the base, on-policy practice of earlier tasks.

    Rows     y ~ student(x), temperature 1.1, for prompts of the stage and for some prompts of earlier tasks
    Context  the demonstration, in the teacher's prompt only
    Target   ∝ b^(1 − 1/β) · q^(1/β), b the base and q the base with the demonstration in its prompt; β = 2
    Loss     w · KL(p‖target) + μ KL(b‖p) per token, w SDFT's correction of the row; mean over all tokens
    """

    name: ClassVar[str] = "anchored"
    summary: ClassVar[str] = "Self-distillation to half-way between base and teacher; it also practices earlier tasks."
    source: ClassVar[str] = "our own, from arXiv 2607.28582 and 2609.24646"
    cost: ClassVar[str] = (
        "1 generation, 1 teacher forward, 1 base forward, 1 forward, 1 backward per prompt; from the second stage on "
        "half as much again, on earlier tasks' prompts"
    )
    when: ClassVar[str] = "The first choice: demonstrations, old skills matter, and earlier tasks' data may be kept."

    beta: float = Field(default=2.0, ge=1)
    """β; higher is more conservative. On the lab, 1.25 and 1.7 fail on one task order."""
    mu: float = Field(default=0.05, ge=0)
    """Coefficient of KL(base‖student), iSDFT's anchor, but stronger. The divergence from the target looks at tokens
    that the student already samples; this KL also looks at tokens that the base would sample. Of four task orders on
    the lab one needs it: without it, one of two seeds does not learn there."""
    replay_ratio: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    """Prompts of earlier tasks per prompt of the stage. They get new samples and are trained like the others."""
    template: str = DEMONSTRATION_TEMPLATE
    """The teacher's last user message: SDFT's template, because demonstrations need not be solutions."""

    def objective(self) -> Objective:
        return replace(super().objective(), reference_kl=self.mu, reference_kl_form="forward_kl")

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        metrics = super().annotate(groups)
        for row in (row for group in groups for row in group.rows):
            row.base_kl = 1.0 if self.mu else 0.0
        return metrics
