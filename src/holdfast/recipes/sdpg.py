"""SDPG: a policy gradient plus a divergence from the model that sees the solution."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field, model_validator

from holdfast.data.rows import Group
from holdfast.data.teacher_prompts import (
    DEMONSTRATION_TEMPLATE,
    demonstration_prompt,
    privileged_text,
)
from holdfast.recipes.base.solution_template import shows_solution
from holdfast.recipes.grpo import GRPO
from holdfast.recipes.parts.objective import Divergence, Objective
from holdfast.recipes.parts.teacher import TeacherSpec


class SDPG(GRPO):
    """SDPG (arXiv 2606.04036): GRPO + self-distillation + a quadratic penalty to the base.

    Rows     y_1..y_8 ~ student(x), temperature 1, judged by the verifier
    Context  the reference solution, in the teacher's prompt only; the teacher is the current student
    Loss     GRPO's with clips .2 / .28 and dual clip 10
             + distillation · KL(p_t ‖ sg q_t) over the full vocabulary
             + beta/2 · log²(p/b) of the sampled tokens, b the base
    """

    name: ClassVar[str] = "sdpg"
    needs: ClassVar[frozenset[str]] = frozenset({"privileged_context", "reward"})
    summary: ClassVar[str] = "GRPO, plus a weak divergence from the model that sees the solution, and a KL to the base."
    source: ClassVar[str] = "SDPG, arXiv 2606.04036"
    cost: ClassVar[str] = "8 generations per prompt; teacher, base and student forward, 1 backward per row"
    when: ClassVar[str] = "A verifier and solutions, if GRPO alone is slow: groups without variance learn too."
    context_from_example: ClassVar[bool] = True

    epsilon_high: float = Field(default=0.28, gt=0)
    dual_clip: float | None = Field(default=10.0, gt=1)
    """Bound of the loss at a negative advantage, in units of −A; none for no bound."""
    distillation: float = Field(default=1e-3, ge=0)
    """Coefficient of the divergence, the paper's β. Reconstruction: constant. The paper warms it up and decays it; we
    do not know how fast."""
    beta: float = Field(default=1e-3, ge=0)
    """Coefficient of the KL to the base, the paper's α."""
    divergence: Divergence = "reverse_kl"
    positive_advantages_only: bool = False
    """Distill only on rows with a positive advantage."""
    template: str = DEMONSTRATION_TEMPLATE
    """The teacher's last user message, with the places {prompt} and {demonstration}."""

    _template_shows_the_solution = model_validator(mode="after")(shows_solution)

    def teacher(self) -> TeacherSpec:
        return TeacherSpec(kind="live")

    def objective(self) -> Objective:
        plain = super().objective()
        clipped = plain.policy_gradient and replace(plain.policy_gradient, dual_clip=self.dual_clip)
        return replace(plain, policy_gradient=clipped, divergence=self.divergence, reference_kl_form="k2")

    def signal(self) -> str:
        return f"policy gradient; {super().signal()}; k2 to the base"

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        metrics = super().annotate(groups)
        for group in groups:
            shown = privileged_text(group.example)
            for row in group.rows:
                row.teacher_messages = demonstration_prompt(group.example.messages, shown, self.template)
                if not row.excluded and (row.advantage > 0 or not self.positive_advantages_only):
                    row.div = self.distillation
        return metrics
