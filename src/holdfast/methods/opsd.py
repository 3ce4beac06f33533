"""OPSD: the model, shown a reference solution, supervises itself on its own samples, token by token and clipped."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from pydantic import Field, model_validator

from holdfast.contexts import REFERENCE_TEMPLATE, demonstration_prompt, privileged_text, require_places
from holdfast.methods.taught import Taught
from holdfast.objective.spec import (
    Aggregation,
    Clip,
    Divergence,
    Objective,
    RolloutSpec,
    StageStart,
    Support,
    TeacherKind,
)
from holdfast.rollouts.rows import Group


class OPSD(Taught):
    """On-Policy Self-Distillation (arXiv 2601.18734, v3).

    Rows     y ~ student(x), one per prompt, temperature 1.1
    Context  the reference solution, in the teacher's prompt only
    Teacher  the model before training
    Loss     Σ_v min(q[v] (log q[v] − log p[v]), .05) per token, q teacher and p student at the sampling temperature;
             mean over all tokens
    """

    name: ClassVar[str] = "opsd"
    needs: ClassVar[frozenset[str]] = frozenset({"privileged_context"})
    summary: ClassVar[str] = "Learn from reference solutions on-policy, with every token's divergence clipped."
    source: ClassVar[str] = "Self-Distilled Reasoner: On-Policy Self-Distillation, arXiv 2601.18734"
    cost: ClassVar[str] = "1 generation, 1 teacher forward, 1 forward, 1 backward per prompt; the base as teacher"
    when: ClassVar[str] = "Verified solutions to problems that need reasoning, and a model that can follow them."
    context_is_known: ClassVar[bool] = True

    num_generations: int = Field(default=1, ge=1)
    divergence: Divergence = "forward_kl"
    """The default since v3; JSD(.5) before."""
    jsd_beta: float = Field(default=0.5, gt=0, lt=1)
    support: Support = "full"
    top_k: int = Field(default=50, ge=1)
    clip: Clip = "entry"
    """`entry` is the paper's. At a token where it cuts something off, it can turn the gradient against the teacher's
    favourite, for the softmax's normaliser stays; `token` scales the token's divergence and keeps its direction. On the
    lab's calculation task (12 steps, 2 seeds) `entry` ends at 0%, `token` at 94 and 98%, no clip at 94 and 100%."""
    clip_at: float = Field(default=0.05, gt=0)
    teacher_kind: TeacherKind = "frozen"
    ema_rate: float = Field(default=0.001, ge=0, le=1)
    stage_start: StageStart = "base"
    """The paper trains one task, from the base; "student" is what a new run per task amounts to."""
    temperature: float = Field(default=1.1, gt=0)
    """Of the samples, and of both distributions in the loss."""
    aggregation: Aggregation = "token_mean"
    template: str = REFERENCE_TEMPLATE

    @model_validator(mode="after")
    def _template_shows_the_solution(self) -> Self:
        require_places("template", self.template, "prompt", "demonstration")
        return self

    def rollouts(self) -> RolloutSpec:
        return RolloutSpec(source="student", num_generations=self.num_generations, temperature=self.temperature)

    def objective(self) -> Objective:
        return Objective(
            divergence=self.divergence,
            jsd_beta=self.jsd_beta,
            support=self.support,
            top_k=self.top_k,
            clip=self.clip,
            clip_at=self.clip_at,
            temperature=self.temperature,
            aggregation=self.aggregation,
        )

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        for group in groups:
            for row in group.rows:
                shown = privileged_text(group.example)
                row.teacher_messages = demonstration_prompt(group.example.messages, shown, self.template)
                row.div = 1.0
                self.mask_tokens(row)
        return {}
