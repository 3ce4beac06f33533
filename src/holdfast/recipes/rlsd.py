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
from holdfast.recipes.base.conditions import Condition
from holdfast.recipes.base.solution_template import shows_solution
from holdfast.recipes.grpo import GRPO
from holdfast.recipes.parts.controllers import Controller, Ramp
from holdfast.recipes.parts.objective import Aggregation, Objective
from holdfast.recipes.parts.teacher import TeacherSpec


class RLSD(GRPO):
    """RLSD (arXiv 2604.03128): GRPO whose token advantages are scaled by the model that sees the solution.

    Rows     y_1..y_8 ~ student(x), temperature 1, judged by the verifier
    Context  the reference solution, in the teacher's prompt only
    Teacher  the student as it was at the start of the stage; it is copied again every 20 rollout batches
    Signal   A_it = A_i · [(1 − λ) + λ · clip(exp(sign(A_i) · sg(log q_t − log p_t)), 1 ± .2)],
             A_i as in GRPO; λ falls from .5 to 0 over the stage's first 60 steps
    Loss     GRPO's with A_it, clips .2 / .28 and dual clip 3; mean over all tokens

    These are the settings of the released script. The paper's text has "the same model" as the teacher, which is
    `teacher_kind: live`, and a ramp of 50 steps.
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

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {"sync_every": ({"teacher_kind": ("periodic",)},)}

    modulation: float = Field(default=0.5, ge=0, le=1)
    """λ at the start of a stage: the share of every advantage that the teacher scales."""
    modulation_steps: int = Field(default=60, ge=0)
    """Optimizer steps until λ is 0, linearly; 0 keeps λ constant. Reconstruction: every stage has its own ramp, as
    separate runs would."""
    modulation_clip: float = Field(default=0.2, ge=0, lt=1)
    """How far from 1 the teacher's factor may be."""
    teacher_kind: Literal["periodic", "live"] = "periodic"
    """`periodic`: a copy of the student, taken at the start of a stage and every `sync_every` rollout batches; `live`:
    the current student."""
    sync_every: int = Field(default=20, ge=1)
    """Rollout batches between copies of the student into a `periodic` teacher."""
    epsilon_high: float = Field(default=0.28, gt=0)
    dual_clip: float | None = Field(default=3.0, gt=1)
    aggregation: Aggregation = "token_mean"
    template: str = DEMONSTRATION_TEMPLATE
    """The teacher's last user message, with the places {prompt} and {demonstration}."""

    _template_shows_the_solution = model_validator(mode="after")(shows_solution)

    def teacher(self) -> TeacherSpec:
        if self.teacher_kind == "live":
            return TeacherSpec(kind="live")
        return TeacherSpec(kind="periodic", every=self.sync_every, stage_start="student")

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
