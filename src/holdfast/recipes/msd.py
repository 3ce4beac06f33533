"""MSD: the model, asked in a language that it is safer in, supervises what it says in another."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from holdfast.data.rows import Group
from holdfast.data.teacher_prompts import (
    TRANSLATION_TEMPLATE,
    fill,
    last_user_message,
    require_places,
    with_last_user_message,
)
from holdfast.recipes.base.distilled import Corrected
from holdfast.recipes.base.recipe import Condition
from holdfast.recipes.base.taught import Taught
from holdfast.recipes.parts.objective import Aggregation, DivergenceWeight, Objective
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.recipes.parts.teacher import StageStart, TeacherKind


class MSD(Corrected, Taught):
    """Multilingual safety alignment via self-distillation (arXiv 2605.02971).

    Rows     y ~ student(x), one per prompt; x in the language that lacks caution, and no answer to it is needed.
             Off-policy: y ~ teacher, asked x in the other language
    Context  x in the language that has it, and a word of instruction, in the teacher's prompt only
    Teacher  the model before training
    Loss     w_t · KL(student ‖ teacher) per token, w_t = (1 − H(q_t)/log K) · (1 − p_t(y_t)), detached, q_t the teacher
             on its K most likely entries; on-policy times SDFT's correction of the row; mean over all tokens
    """

    name: ClassVar[str] = "msd"
    needs: ClassVar[frozenset[str]] = frozenset({"translation"})
    summary: ClassVar[str] = "Carry what the model does in one language over to another, from prompts alone."
    source: ClassVar[str] = "Multilingual Safety Alignment via Self-Distillation, arXiv 2605.02971"
    cost: ClassVar[str] = "1 generation, 1 teacher forward, 1 forward, 1 backward per prompt"
    when: ClassVar[str] = (
        "Prompts with translations, no answers, and a behavior that one language has and another lacks."
    )
    context_is_known: ClassVar[bool] = True

    read_where: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "entropy_top_k": ({"weigh_by_teacher": (True,)},),
        "importance_cap": ({"sampled_by": ("student",)},),
    }

    sampled_by: Literal["student", "teacher"] = "student"
    """Who writes the answers that both score: `student` is the on-policy form, `teacher` the off-policy one."""
    num_generations: int = Field(default=1, ge=1)
    weigh_by_teacher: bool = True
    """w_T, high where the teacher is sure. Reconstruction: that certainty marks what matters for safety, and not the
    other way round, is how we read "teacher perspective"."""
    weigh_by_student: bool = True
    """w_S, high where the student finds its own token unlikely. Reconstruction: its exact form is unknown to us."""
    entropy_top_k: int = Field(default=20, ge=2)
    """K. Reconstruction: not stated where we could read it."""
    teacher_kind: TeacherKind = "frozen"
    """Reconstruction: "the same model"; whether its weights follow the student's is not stated. Frozen cannot drift."""
    stage_start: StageStart = "base"
    temperature: float = Field(default=1.0, gt=0)
    aggregation: Aggregation = "token_mean"
    """Reconstruction: the reduction is not stated where we could read it; this is OPSD's."""
    template: str = TRANSLATION_TEMPLATE
    """Of the teacher's last message. Reconstruction: the paper's instruction asks for thought first, in words not known
    to us."""

    @model_validator(mode="after")
    def _template_shows_the_prompt(self) -> Self:
        require_places("template", self.template, "prompt")
        return self

    @model_validator(mode="after")
    def _the_teacher_can_be_sampled(self) -> Self:
        is_base = self.teacher_kind == "frozen" and self.stage_start == "base"
        if self.sampled_by == "teacher" and self.teacher_kind != "live" and not is_base:
            raise ValueError(
                "sampled_by: teacher is for a teacher that is the base or the student as it is; set teacher_kind: "
                "frozen and stage_start: base, or teacher_kind: live"
            )
        return self

    def rollouts(self) -> RolloutSpec:
        own = RolloutSpec(source="student", num_generations=self.num_generations, temperature=self.temperature)
        if self.sampled_by == "student":
            return own
        return replace(own, source="student" if self.teacher_kind == "live" else "base", prompt="teacher")

    def objective(self) -> Objective:
        weight = DivergenceWeight(
            by_teacher=self.weigh_by_teacher, by_student=self.weigh_by_student, top_k=self.entropy_top_k
        )
        return Objective(
            divergence="reverse_kl",
            divergence_weight=weight if self.weigh_by_teacher or self.weigh_by_student else None,
            importance="sequence_mean" if self.sampled_by == "student" else "none",
            importance_cap=self.importance_cap,
            temperature=self.temperature,
            aggregation=self.aggregation,
        )

    def signal(self) -> str:
        sides = [
            name
            for name, weighs in (
                ("the teacher's certainty", self.weigh_by_teacher),
                ("1 − p(y)", self.weigh_by_student),
            )
            if weighs
        ]
        weighed = f", weighed by {' and '.join(sides)}" if sides else ""
        return f"{super().signal()}{weighed}"

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        for group in groups:
            translation = group.example.translation
            assert translation is not None  # guaranteed by `needs`
            asked = fill(self.template, prompt=last_user_message(translation))
            for row in group.rows:
                row.teacher_messages = with_last_user_message(translation, asked)
                row.div = 1.0
                self.mask_tokens(row)
        return {}
