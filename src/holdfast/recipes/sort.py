"""SORT: if all samples fail, learn from the reference, most of all the tokens that a plan makes likely."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Self

from pydantic import Field, model_validator

from holdfast.data.rows import Group
from holdfast.data.teacher_prompts import PLAN_TEMPLATE, plan_prompt, require_places
from holdfast.recipes.grpo import GRPO
from holdfast.recipes.parts.objective import Objective, TokenWeight
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.recipes.parts.teacher import TeacherSpec


class SORT(GRPO):
    """Selective off-policy reference tuning with plan guidance (arXiv 2605.11505).

    Rows     y_1..y_8 ~ student(x), temperature 1, judged; if none solves the prompt, also the reference y*
    Context  the plan, in the teacher's prompt only; the teacher is the current student, and scores y*
    Loss     GRPO's on samples; on references −λ · sg(p_t^(1−α) g_t^α) · log p_t with p without and g with the plan;
             mean over a row's tokens, then over all rows, used references included
    """

    name: ClassVar[str] = "sort"
    needs: ClassVar[frozenset[str]] = frozenset({"plan", "demonstration", "reward"})
    summary: ClassVar[str] = "GRPO that imitates the reference if all samples fail, weighted by a plan."
    source: ClassVar[str] = "SORT, arXiv 2605.11505"
    cost: ClassVar[str] = (
        "8 generations per prompt; 1 forward, 1 backward per row with signal; if no sample solves the prompt, "
        "1 forward, 1 teacher forward and 1 backward more on the reference"
    )
    context_from_example: ClassVar[bool] = True
    when: ClassVar[str] = "A verifier, references and plans, and many prompts that no sample solves."

    reference_weight: float = Field(default=1.0, ge=0)
    """λ, the weight of references. Reconstruction: we could not find the paper's value."""
    plan_share: float = Field(default=0.5, ge=0, le=1)
    """α, the plan's exponent; 0 is DFT on references. Reconstruction: the paper says "geometric mean", which is ½."""
    rising_only: bool = False
    """Leave out tokens that the plan does not make likelier. Reconstruction: one reading of "likelihood increases"."""
    normalize_weights: bool = False
    """Divide weights by their mean over the reference. Reconstruction: we do not know whether the paper does."""
    success_threshold: float = Field(default=1.0, gt=0, le=1)
    """A prompt fails if all its samples have a lower reward. Reconstruction: partial credit is not success."""
    template: str = PLAN_TEMPLATE
    """The teacher's last user message, with the places {prompt} and {plan}."""

    @model_validator(mode="after")
    def _template_shows_the_plan(self) -> Self:
        require_places("template", self.template, "prompt", "plan")
        return self

    def rollouts(self) -> RolloutSpec:
        return replace(super().rollouts(), with_demonstration=True)

    def teacher(self) -> TeacherSpec:
        return TeacherSpec(kind="live")

    def objective(self) -> Objective:
        weight = TokenWeight(
            teacher_share=self.plan_share, rising_only=self.rising_only, normalized=self.normalize_weights
        )
        return replace(super().objective(), token_weight=weight)

    def signal(self) -> str:
        weight = f"p^{1 - self.plan_share:g}·g^{self.plan_share:g}"
        return f"policy gradient; cross-entropy on references, weighted by {weight}"

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        sampled = [group.sampled() for group in groups]
        metrics = super().annotate(sampled)
        failed = 0
        for group, own in zip(groups, sampled, strict=True):
            solved = any(row.reward >= self.success_threshold for row in own.rows)
            failed += not solved
            for row in group.rows:
                if row.is_sampled:
                    continue
                row.excluded = solved
                row.ce = 0.0 if solved else self.reference_weight
                assert group.example.plan is not None  # guaranteed by `needs`
                if not solved:
                    row.teacher_messages = plan_prompt(group.example.messages, group.example.plan, self.template)
        return {**metrics, "failed_group_fraction": failed / max(1, len(groups))}
