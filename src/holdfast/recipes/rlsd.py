"""RLSD: the reward decides the direction of each token's update, the teacher its size."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from holdfast.data.rows import Group
from holdfast.data.teacher_prompts import (
    DEMONSTRATION_TEMPLATE,
    demonstration_prompt,
    privileged_text,
)
from holdfast.recipes.base.solution_template import shows_solution
from holdfast.recipes.grpo import GRPO
from holdfast.recipes.parts.controllers import Controller, Ramp
from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.parts.teacher import TeacherSpec


class RLSD(GRPO):
    """RLSD (arXiv 2604.03128): GRPO whose token advantages are scaled by the model that sees the solution.

    Rows     y_1..y_8 ~ student(x), temperature 1, judged by the verifier
    Context  the reference solution, in the teacher's prompt only
    Signal   A_it = A_i · [(1 − λ) + λ · clip(exp(sign(A_i) · sg(log q_t − log p_t)), 1 ± .2)],
             A_i as in GRPO; λ falls from .5 to 0 over the stage's first 50 steps
    Loss     GRPO's with A_it
    """

    name: ClassVar[str] = "rlsd"
    needs: ClassVar[frozenset[str]] = frozenset({"privileged_context", "reward"})
    summary: ClassVar[str] = "GRPO; the model that sees the solution distributes the advantage over the tokens."
    source: ClassVar[str] = "RLSD, arXiv 2604.03128"
    cost: ClassVar[str] = "8 generations per prompt; 1 teacher forward, 1 forward, 1 backward per row with signal"
    when: ClassVar[str] = (
        "A verifier and solutions. It forgets as little as GRPO, because only rewards decide the direction."
    )
    context_from_example: ClassVar[bool] = True

    modulation: float = Field(default=0.5, ge=0, le=1)
    """λ at the start of a stage: the share of every advantage that the teacher scales."""
    modulation_steps: int = Field(default=50, ge=0)
    """Optimizer steps until λ is 0, linearly; 0 keeps λ constant. Reconstruction: every stage has its own ramp, as
    separate runs would."""
    modulation_clip: float = Field(default=0.2, ge=0, lt=1)
    """How far from 1 the teacher's factor may be."""
    teacher_kind: Literal["live", "frozen"] = "live"
    """`live`: the current student; `frozen`: the base. Reconstruction: the paper says "the same model"."""
    template: str = DEMONSTRATION_TEMPLATE
    """The teacher's last user message, with the places {prompt} and {demonstration}."""

    _template_shows_the_solution = model_validator(mode="after")(shows_solution)

    def teacher(self) -> TeacherSpec:
        return TeacherSpec(kind=self.teacher_kind, stage_start="base")

    def objective(self) -> Objective:
        plain = super().objective()
        assert plain.policy_gradient is not None
        modulated = replace(plain.policy_gradient, modulation=self.modulation, modulation_clip=self.modulation_clip)
        return replace(plain, policy_gradient=modulated)

    def controllers(self) -> dict[str, Controller]:
        return {"modulation": Ramp(self.modulation, 0.0, self.modulation_steps)} if self.modulation_steps else {}

    def signal(self) -> str:
        return f"policy gradient, advantages scaled by the teacher within ±{self.modulation_clip:g}"

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        metrics = super().annotate(groups)
        for group in groups:
            shown = privileged_text(group.example)
            for row in group.rows:
                row.teacher_messages = demonstration_prompt(group.example.messages, shown, self.template)
        return metrics
