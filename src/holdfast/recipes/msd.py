"""MSD: the model, prompted in a language in which it is safer, teaches itself in another language."""

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
from holdfast.recipes.base.conditions import Condition
from holdfast.recipes.base.distillation import CorrectionSettings, TeacherSettings
from holdfast.recipes.parts.objective import Aggregation, DivergenceWeight, Objective
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.recipes.parts.teacher import StageStart, TeacherKind


class MSD(CorrectionSettings, TeacherSettings):
    """Multilingual safety alignment via self-distillation (arXiv 2605.02971).

    Rows     y ~ student(x), one per prompt; x in the less safe language, and no answer to it is needed.
             Off-policy: y ~ teacher, with x in the safer language
    Context  x in the safer language, and a short instruction, in the teacher's prompt only
    Teacher  the model before training
    Loss     w_t · KL(student ‖ teacher) per token, w_t = (1 − H(q_t)/log K) · (1 − p_t(y_t)), detached, q_t the teacher
             on its K most likely entries; on-policy times SDFT's correction of the row; mean over all tokens
    """

    name: ClassVar[str] = "msd"
    needs: ClassVar[frozenset[str]] = frozenset({"translation"})
    summary: ClassVar[str] = "Transfer the model's behavior in one language to another, from prompts alone."
    source: ClassVar[str] = "Multilingual Safety Alignment via Self-Distillation, arXiv 2605.02971"
    cost: ClassVar[str] = "1 generation, 1 teacher forward, 1 forward, 1 backward per prompt"
    when: ClassVar[str] = (
        "Prompts with translations, no answers, and a behavior that the model has in one language only."
    )
    context_from_example: ClassVar[bool] = True

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "entropy_top_k": ({"weigh_by_teacher": (True,)},),
        "importance_cap": ({"sampled_by": ("student",)},),
    }

    sampled_by: Literal["student", "teacher"] = "student"
    """The model that samples the answers: `student` is the on-policy form, `teacher` the off-policy one."""
    num_generations: int = Field(default=1, ge=1)
    """Samples per prompt."""
    weigh_by_teacher: bool = True
    """Use w_T, which is high if the teacher is certain. Reconstruction: we read "teacher perspective" as: certainty
    marks the tokens that matter for safety."""
    weigh_by_student: bool = True
    """Use w_S, which is high if the student's own token was unlikely. Reconstruction: we do not know the exact form."""
    entropy_top_k: int = Field(default=20, ge=2)
    """K, the number of the teacher's entries. Reconstruction: we could not find the paper's value."""
    teacher_kind: TeacherKind = "frozen"
    """How the teacher's weights move. Reconstruction: the paper says "the same model", not whether its weights follow
    the student's. A frozen teacher cannot drift."""
    stage_start: StageStart = "base"
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the samples and of both distributions in the loss."""
    aggregation: Aggregation = "token_mean"
    """How the loss is averaged over tokens and rows. Reconstruction: we could not find the paper's; this is OPSD's."""
    template: str = TRANSLATION_TEMPLATE
    """The teacher's last user message, with the place {prompt}. Reconstruction: the paper's instruction asks to think
    first; we do not know its words."""

    @model_validator(mode="after")
    def _template_shows_the_prompt(self) -> Self:
        require_places("template", self.template, "prompt")
        return self

    @model_validator(mode="after")
    def _the_teacher_can_be_sampled(self) -> Self:
        is_base = self.teacher_kind == "frozen" and self.stage_start == "base"
        if self.sampled_by == "teacher" and self.teacher_kind != "live" and not is_base:
            raise ValueError(
                "sampled_by: teacher is for a teacher that is the base or the current student; set teacher_kind: "
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
        by_teacher = ["the teacher's certainty"] if self.weigh_by_teacher else []
        by_student = ["1 − p(y)"] if self.weigh_by_student else []
        weights = " and ".join(by_teacher + by_student)
        return super().signal() + (f", weighted by {weights}" if weights else "")

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        for group in groups:
            translation = group.example.translation
            assert translation is not None  # guaranteed by `needs`
            prompt = fill(self.template, prompt=last_user_message(translation))
            for row in group.rows:
                row.teacher_messages = with_last_user_message(translation, prompt)
                row.div = 1.0
                self.mask_tokens(row)
        return {}
