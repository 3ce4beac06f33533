"""OPSD: the model with a reference solution in its prompt teaches the model without it, with a clipped divergence."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from holdfast.data.rows import Group
from holdfast.data.teacher_prompts import REFERENCE_TEMPLATE, privileged_text
from holdfast.recipes.base.conditions import Condition
from holdfast.recipes.base.distillation import DivergenceSettings, TeacherSettings
from holdfast.recipes.base.privilege import PrivilegeSettings
from holdfast.recipes.base.solution_template import shows_solution
from holdfast.recipes.parts.objective import Aggregation, Clip, Divergence, Objective
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.recipes.parts.teacher import StageStart, TeacherKind


class OPSD(DivergenceSettings, TeacherSettings, PrivilegeSettings):
    """On-Policy Self-Distillation (arXiv 2601.18734, v3).

    Rows     y ~ student(x), one per prompt, temperature 1.1
    Context  the reference solution, in the teacher's prompt only
    Teacher  the model before training
    Loss     Σ_v min(q[v] (log q[v] − log p[v]), .05) per token, q teacher and p student at the sampling temperature;
             times SDFT's correction of the row; mean over all tokens
    """

    name: ClassVar[str] = "opsd"
    needs: ClassVar[frozenset[str]] = frozenset({"privileged_context"})
    summary: ClassVar[str] = "Learn from reference solutions on-policy, with a clipped divergence at every token."
    source: ClassVar[str] = "Self-Distilled Reasoner: On-Policy Self-Distillation, arXiv 2601.18734"
    cost: ClassVar[str] = "1 generation, 1 teacher forward, 1 forward, 1 backward per prompt"
    when: ClassVar[str] = "Verified solutions to problems that need reasoning, and a model that can follow them."
    context_from_example: ClassVar[bool] = True

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "clip_at": ({"clip": ("entry", "token")},),
        "importance_cap": ({"sampling_top_k": (0,), "sampling_top_p": (1.0,)},),
    }

    num_generations: int = Field(default=1, ge=1)
    """Samples per prompt."""
    divergence: Divergence = "forward_kl"
    """The default since v3 of the paper; before, JSD(.5)."""
    top_k: int = Field(default=50, ge=1)
    """Number of entries of a top-k `support`."""
    top_k_by: Literal["divergence", "student", "teacher"] = "divergence"
    """Whose most likely entries a top-k `support` has. `divergence`: the teacher's for the forward KL, as in the
    released code; the student's otherwise."""
    clip: Clip = "entry"
    """`entry` caps every summand, as in the paper; `token` scales a token's whole divergence. When `entry` cuts
    something off, it can turn the gradient against the teacher's favorite, because the softmax's normalizer is not cut.
    `token` keeps the gradient's direction. On the lab's calculation task (12 steps, 2 seeds) `entry` ends at 0%,
    `token` at 94 and 98%, no clip at 94 and 100%."""
    clip_at: float = Field(default=0.05, gt=0)
    """The cap in nats."""
    teacher_kind: TeacherKind = "frozen"
    ema_rate: float = Field(default=0.001, ge=0, le=1)
    stage_start: StageStart = "base"
    """The teacher at the start of a stage. The paper trains one task, from the base; a new run per task amounts to
    `student`."""
    temperature: float = Field(default=1.1, gt=0)
    """Temperature of the samples and of both distributions in the loss."""
    sampling_top_k: int = Field(default=0, ge=0)
    """Sample from this many most likely tokens; 0 for all. The paper samples with top-k 20 and top-p .95. Off by
    default: the correction with `importance_cap` needs samples from the full distribution, and is left out for
    truncated ones."""
    sampling_top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the fewest most likely tokens whose probabilities sum to this; 1 for all."""
    aggregation: Aggregation = "token_mean"
    """How the loss is averaged over tokens and rows."""
    template: str = REFERENCE_TEMPLATE
    """The teacher's last user message, with the places {prompt} and {demonstration}. The line above the solution is the
    released one; the rest is in our words."""

    _template_shows_the_solution = model_validator(mode="after")(shows_solution)

    def rollouts(self) -> RolloutSpec:
        return RolloutSpec(
            source="student",
            num_generations=self.num_generations,
            temperature=self.temperature,
            top_k=self.sampling_top_k,
            top_p=self.sampling_top_p,
        )

    def objective(self) -> Objective:
        return replace(
            self.divergence_from_teacher("none" if self.rollouts().truncates else "sequence_mean"),
            clip=self.clip,
            clip_at=self.clip_at,
            temperature=self.temperature,
            aggregation=self.aggregation,
        )

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        for group in groups:
            example = self.shown_example(group)
            shown = "" if example is None else privileged_text(example)
            conversation = self.conversation(group, shown, self.template)
            for row in group.rows:
                row.teacher_messages = conversation
                row.div = 1.0
                self.mask_tokens(row)
        return {}
