"""SDPO: the model with a sibling's success or with feedback in its prompt teaches the model without it."""

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
from holdfast.recipes.base.distillation import DivergenceSettings, TeacherSettings
from holdfast.recipes.parts.objective import Aggregation, Divergence, Objective, Support
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.recipes.parts.teacher import StageStart, TeacherSpec


class SDPO(DivergenceSettings, TeacherSettings):
    """Self-Distillation Policy Optimization (arXiv 2601.20802), the setting without rich feedback.

    Rows     y_1..y_8 ~ student(x), temperature 1, judged by the verifier
    Context  the first sibling that succeeded (never the row itself); else the row's own feedback, if the verifier gave
             any, whatever the reward; else none
    Teacher  EMA, updated once per rollout batch
    Loss     JSD(.5) on the student's top 100 and a tail bucket, per token, × min(p_train/p_sampler, 2);
             mean over a row's tokens, then over all rows: rows without a teacher give 0 and count
    """

    name: ClassVar[str] = "sdpo"
    needs: ClassVar[frozenset[str]] = frozenset({"reward"})
    summary: ClassVar[str] = (
        "Learn from own successes and from feedback: the model that sees them teaches the model that does not."
    )
    source: ClassVar[str] = "Reinforcement Learning via Self-Distillation, arXiv 2601.20802"
    cost: ClassVar[str] = "8 generations per prompt; 1 teacher forward, 1 forward, 1 backward per row with signal"
    when: ClassVar[str] = (
        "A verifier, some successes among samples, and feedback as text. Faster than GRPO, and it drifts more."
    )

    num_generations: int = Field(default=8, ge=1)
    """Samples per prompt."""
    divergence: Divergence = "jsd"
    support: Support = "topk_tail"
    top_k_by: Literal["divergence", "student", "teacher"] = "student"
    """Whose most likely entries a top-k `support` has. The student's for every divergence, as in the released code.
    `divergence`: the teacher's for the forward KL, the student's otherwise."""
    success_threshold: float = Field(default=0.5, gt=0, le=1)
    """Reward from which a sibling is a solution. The paper's configuration has .5, its dataclass 1."""
    exclude_own_success: bool = True
    """Never show a row its own success. A group's only success then has a loss only if it has feedback. This is the
    released default; table 2 has the contrary."""
    feedback: Literal["without_solution", "always", "never"] = "without_solution"
    """When the teacher sees the verifier's feedback: only without a solution, always, or never."""
    remove_thinking_from_demonstration: bool = True
    """Show the sibling's success without its reasoning."""
    count_rows_without_teacher: bool = True
    """Count rows without a teacher in the denominator, as in the released code."""
    ema_rate: float = Field(default=0.05, ge=0, le=1)
    """Rate of the `ema` teacher per rollout batch. The paper uses .05 without rich feedback, .01 with it (table 12)."""
    stage_start: StageStart = "base"
    """The teacher at the start of a stage. The papers do not say. As for `sdft`, the base has its ability to use a
    context in full; a new run per task amounts to `student`."""
    importance_cap: float = Field(default=2.0, ge=1)
    """Cap on a token's ratio p_train/p_sampler. The token's divergence is multiplied by it."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the samples and of both distributions in the loss."""
    num_iterations: int = Field(default=1, ge=1)
    """Optimizer steps per rollout batch."""
    aggregation: Aggregation = "sequence_mean"
    """How the loss is averaged over tokens and rows."""
    reprompt_template: str = REPROMPT_TEMPLATE
    """The teacher's last user message, with the places {prompt}, {solution} and {feedback}."""
    solution_template: str = SOLUTION_TEMPLATE
    """The part with a sibling's success, with the place {solution}. It has the released words, but other line breaks.
    The released one is `"\\nCorrect solution:\\n\\n{solution}"`."""
    feedback_template: str = FEEDBACK_TEMPLATE
    """The part with the feedback, with the place {feedback}. The released one has the same words and the line breaks of
    the released `solution_template`."""

    @model_validator(mode="after")
    def _teacher_sees_more(self) -> Self:
        require_places("reprompt_template", self.reprompt_template, "prompt", "solution")
        require_places("solution_template", self.solution_template, "solution")
        if self.feedback != "never":
            require_places("reprompt_template", self.reprompt_template, "feedback")
            require_places("feedback_template", self.feedback_template, "feedback")
        if self.num_generations == 1 and self.exclude_own_success and self.feedback == "never":
            raise ValueError(
                "num_generations: 1 leaves no sibling to learn from, and feedback: never no feedback, so there is no "
                "signal; raise num_generations"
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
        """The first success that this row may see, if any text is left of it."""
        for success in successes:
            text = strip_thinking(success.completion) if self.remove_thinking_from_demonstration else success.completion
            if text.strip() and not (success is row and self.exclude_own_success):
                return text
        return None

    def _feedback(self, row: Row, solution: str | None) -> str | None:
        allowed = self.feedback == "always" or (self.feedback == "without_solution" and solution is None)
        if not allowed or row.verdict is None:
            return None
        return row.verdict.feedback if row.verdict.feedback.strip() else None
