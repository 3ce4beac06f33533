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
from holdfast.recipes.parts.objective import Aggregation, Divergence, Objective
from holdfast.recipes.parts.teacher import TeacherSpec


class SDPG(GRPO):
    """SDPG (arXiv 2606.04036): GRPO + self-distillation + a quadratic penalty to the base.

    Rows     y_1..y_8 ~ student(x), temperature 1, judged by the verifier
    Context  the reference solution, in the teacher's prompt only; the teacher is the current student
    Loss     GRPO's with clips .2 / .28 and dual clip 10
             + distillation · KL(p_t ‖ sg q_t) over the full vocabulary
             + beta/2 · log²(p/b) of the sampled tokens, b the base; mean over all tokens
    """

    name: ClassVar[str] = "sdpg"
    needs: ClassVar[frozenset[str]] = frozenset({"privileged_context", "reward"})
    summary: ClassVar[str] = "GRPO, plus a weak divergence from the model that sees the solution, and a KL to the base."
    source: ClassVar[str] = "SDPG, arXiv 2606.04036"
    cost: ClassVar[str] = "8 generations per prompt; teacher, base and student forward, 1 backward per row"
    when: ClassVar[str] = "A verifier and solutions, if GRPO alone is slow."
    context_from_example: ClassVar[bool] = True

    epsilon_high: float = Field(default=0.28, gt=0)
    dual_clip: float | None = Field(default=10.0, gt=1)
    aggregation: Aggregation = "token_mean"
    distillation: float = Field(default=1e-3, ge=0)
    """Coefficient of the divergence, the paper's β. Constant, as in the released script; its code can also warm β up
    and decay it."""
    drop_equal_groups: bool = False
    """Drop groups whose rewards are all equal. They have no advantage, but the divergence and the KL to the base. The
    released script asks to drop them, but its trainer does not read that option. Unlike with DAPO's dynamic sampling,
    nothing is sampled in their place."""
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
        return replace(super().objective(), divergence=self.divergence, reference_kl_form="k2")

    def signal(self) -> str:
        return f"policy gradient; {super().signal()}; k2 to the base"

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        metrics = super().annotate(groups)
        for group in groups:
            shown = privileged_text(group.example)
            is_dropped = self.drop_equal_groups and len({row.reward for row in group.rows}) == 1
            for row in group.rows:
                row.excluded |= is_dropped
                row.teacher_messages = demonstration_prompt(group.example.messages, shown, self.template)
                if not row.excluded and (row.advantage > 0 or not self.positive_advantages_only):
                    row.div = self.distillation
        return metrics
