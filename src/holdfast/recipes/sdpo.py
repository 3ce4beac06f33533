"""SDPO: the model, shown a sibling's success or the environment's feedback, supervises itself on its own samples."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from holdfast.data.rows import Group, Row
from holdfast.data.teacher_prompts import (
    FEEDBACK_TEMPLATE,
    REPROMPT_TEMPLATE,
    SOLUTION_TEMPLATE,
    reprompt,
    require_places,
    strip_thinking,
)
from holdfast.recipes.base.distilled import Distilled
from holdfast.recipes.base.taught import Taught
from holdfast.recipes.parts.objective import Aggregation, Divergence, Objective, Support
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.recipes.parts.teacher import StageStart, TeacherSpec


class SDPO(Distilled, Taught):
    """Self-Distillation Policy Optimization (arXiv 2601.20802), the setting without rich feedback.

    Rows     y_1..y_8 ~ student(x), temperature 1, judged by the verifier
    Context  the first sibling that succeeded (never the row itself); else the row's own feedback; else none
    Teacher  EMA, moved once per rollout batch
    Loss     JSD(.5) on the student's top 100 and a tail bucket, per token, × min(p_train/p_sampler, 2);
             mean over a row's tokens, then over all rows: rows without a teacher give 0 and count
    """

    name: ClassVar[str] = "sdpo"
    needs: ClassVar[frozenset[str]] = frozenset({"reward"})
    summary: ClassVar[str] = (
        "Learn from one's own successes and feedback: the model that sees them teaches the one that does not."
    )
    source: ClassVar[str] = "Reinforcement Learning via Self-Distillation, arXiv 2601.20802"
    cost: ClassVar[str] = "8 generations per prompt; 1 teacher forward, 1 forward, 1 backward per row with signal"
    when: ClassVar[str] = (
        "A verifier, some successes among samples, and feedback in words; faster than GRPO, drifts more."
    )

    num_generations: int = Field(default=8, ge=1)
    divergence: Divergence = "jsd"
    support: Support = "topk_tail"
    top_k_by: Literal["divergence", "student", "teacher"] = "student"
    """Whose most likely entries a top-k `support` has: the student's for every divergence, as in the released code.
    `divergence`: the teacher's for the forward KL, the student's for the others."""
    success_threshold: float = Field(default=0.5, gt=0, le=1)
    """Reward from which a sibling counts as a solution; the paper's configuration says .5, its dataclass 1."""
    exclude_own_success: bool = True
    """A row is never shown its own success, so a lone one gets no loss; the released default, against table 2."""
    feedback: Literal["without_solution", "always", "never"] = "without_solution"
    remove_thinking_from_demonstration: bool = True
    count_rows_without_teacher: bool = True
    """Rows without a teacher count in the denominator, as in the released code."""
    ema_rate: float = Field(default=0.05, ge=0, le=1)
    """.05 in the experiments without rich feedback, .01 with it (table 12)."""
    stage_start: StageStart = "base"
    """The papers do not say what happens to the teacher between tasks; as for `sdft`, the base's ability to use its
    context is whole. "student" is what a new run per task amounts to."""
    importance_cap: float = Field(default=2.0, ge=1)
    """Most that a token's p_train/p_sampler counts for; its divergence is multiplied by it."""
    temperature: float = Field(default=1.0, gt=0)
    num_iterations: int = Field(default=1, ge=1)
    aggregation: Aggregation = "sequence_mean"
    reprompt_template: str = REPROMPT_TEMPLATE
    solution_template: str = SOLUTION_TEMPLATE
    feedback_template: str = FEEDBACK_TEMPLATE

    @model_validator(mode="after")
    def _teacher_sees_more(self) -> Self:
        require_places("reprompt_template", self.reprompt_template, "prompt", "solution")
        require_places("solution_template", self.solution_template, "solution")
        if self.feedback != "never":
            require_places("reprompt_template", self.reprompt_template, "feedback")
            require_places("feedback_template", self.feedback_template, "feedback")
        if self.num_generations == 1 and self.exclude_own_success and self.feedback == "never":
            raise ValueError(
                "with one generation per prompt, no sibling to learn from and no feedback there is no signal; "
                "raise num_generations"
            )
        return self

    def rollouts(self) -> RolloutSpec:
        return RolloutSpec(
            source="student",
            num_generations=self.num_generations,
            temperature=self.temperature,
            num_iterations=self.num_iterations,
        )

    def teacher(self) -> TeacherSpec:
        return self.teacher_spec("rollout_batch")

    def objective(self) -> Objective:
        return replace(
            self.divergence_from_teacher("token"),
            aggregation=self.aggregation,
            temperature=self.temperature,
            count_silent_rows=self.count_rows_without_teacher,
        )

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        rows = with_solution = with_feedback = successful_groups = 0
        for group in groups:
            successes = [row for row in group.rows if row.reward >= self.success_threshold]
            successful_groups += bool(successes)
            for row in group.rows:
                rows += 1
                solution = self._solution(row, successes)
                feedback = self._feedback(row, solution)
                if solution is None and feedback is None:
                    continue
                with_solution += solution is not None
                with_feedback += feedback is not None
                row.div = 1.0
                self.mask_tokens(row)
                row.teacher_messages = reprompt(
                    group.example.messages,
                    solution=solution,
                    feedback=feedback,
                    template=self.reprompt_template,
                    solution_template=self.solution_template,
                    feedback_template=self.feedback_template,
                )
        return {
            "success_group_fraction": successful_groups / max(1, len(groups)),
            "reprompt_fraction": sum(r.div > 0 for g in groups for r in g.rows) / max(1, rows),
            "solution_fraction": with_solution / max(1, rows),
            "feedback_fraction": with_feedback / max(1, rows),
        }

    def _solution(self, row: Row, successes: Sequence[Row]) -> str | None:
        """The first success that may be shown to this row and has text left to show."""
        for success in successes:
            text = strip_thinking(success.completion) if self.remove_thinking_from_demonstration else success.completion
            if text.strip() and not (success is row and self.exclude_own_success):
                return text
        return None

    def _feedback(self, row: Row, solution: str | None) -> str | None:
        allowed = self.feedback == "always" or (self.feedback == "without_solution" and solution is None)
        if not allowed or row.verdict is None or row.reward >= self.success_threshold:
            return None
        return row.verdict.feedback if row.verdict.feedback.strip() else None
