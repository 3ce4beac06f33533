"""SDPG: a policy gradient and a divergence from the model that sees the solution, together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Self

from pydantic import Field, model_validator

from holdfast.data.rows import Group
from holdfast.data.teacher_prompts import (
    DEMONSTRATION_TEMPLATE,
    demonstration_prompt,
    privileged_text,
    require_places,
)
from holdfast.recipes.grpo import GRPO
from holdfast.recipes.parts.objective import Divergence, Objective
from holdfast.recipes.parts.teacher import TeacherSpec


class SDPG(GRPO):
    """SDPG (arXiv 2606.04036): GRPO + self-distillation + a quadratic leash.

    Rows     y_1..y_8 ~ student(x), temperature 1, judged by the verifier
    Context  the reference solution, in the teacher's prompt only; the teacher is the student as it is now
    Loss     GRPO's with clips .2 / .28 and dual clip 10
             + distillation · KL(p_t ‖ sg q_t) over the full vocabulary
             + beta/2 · log²(p/b) of the sampled tokens, b the base
    """

    name: ClassVar[str] = "sdpg"
    needs: ClassVar[frozenset[str]] = frozenset({"privileged_context", "reward"})
    summary: ClassVar[str] = "GRPO with a weak pull toward the model that sees the solution, and one to the base."
    source: ClassVar[str] = "SDPG, arXiv 2606.04036"
    cost: ClassVar[str] = "8 generations per prompt; teacher, base and own forward, 1 backward per row"
    when: ClassVar[str] = "A verifier and solutions, where GRPO alone is slow: groups without variance still learn."
    context_is_known: ClassVar[bool] = True

    epsilon_high: float = Field(default=0.28, gt=0)
    dual_clip: float | None = Field(default=10.0, gt=1)
    distillation: float = Field(default=1e-3, ge=0)
    """The paper's β. Reconstruction: constant; the paper warms it up and lets it decay, at rates unknown to us."""
    beta: float = Field(default=1e-3, ge=0)
    """The paper's α."""
    divergence: Divergence = "reverse_kl"
    gate_positive: bool = False
    """Distil on rows with a positive advantage only."""
    template: str = DEMONSTRATION_TEMPLATE

    @model_validator(mode="after")
    def _template_shows_the_solution(self) -> Self:
        require_places("template", self.template, "prompt", "demonstration")
        return self

    def teacher(self) -> TeacherSpec:
        return TeacherSpec(kind="live")

    def objective(self) -> Objective:
        plain = super().objective()
        clipped = plain.policy_gradient and replace(plain.policy_gradient, dual_clip=self.dual_clip)
        return replace(plain, policy_gradient=clipped, divergence=self.divergence, reference_kl_form="k2")

    def signal(self) -> str:
        return f"policy gradient; {super().signal()}; k2 to the base"

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        numbers = super().annotate(groups)
        for group in groups:
            shown = privileged_text(group.example)
            for row in group.rows:
                row.teacher_messages = demonstration_prompt(group.example.messages, shown, self.template)
                if not row.excluded and (row.advantage > 0 or not self.gate_positive):
                    row.div = self.distillation
        return numbers
