"""holdfast: the recipe that we recommend to begin with, a combination of what holds on to old skills."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from holdfast.methods.base import Condition
from holdfast.methods.isdft import ISDFT
from holdfast.objective.spec import Divergence, Objective, RolloutSpec, TeacherKind
from holdfast.rollouts.rows import Group, Row


class Holdfast(ISDFT):
    """Self-distillation that holds on: iSDFT's target and anchor, a still teacher, and old tasks practised anew.

    Rows     y_1..y_n ~ student(x), temperature 1, of the stage's prompts, and of some of earlier tasks' prompts;
             by choice, where a verifier judges them, the right ones alone
    Context  the demonstration, in the teacher's prompt only
    Teacher  the model before training
    Target   iSDFT's q*: a part ρ of the way from the student p to the teacher q, ρ rising over a stage
    Loss     w · KL(p‖q*) + μ KL(base‖p), w SDFT's correction of the row; mean over a row's tokens, then over rows
    """

    name: ClassVar[str] = "holdfast"
    summary: ClassVar[str] = "Self-distillation with a still teacher, anchored to the base, practising earlier tasks."
    source: ClassVar[str] = "our own, from iSDFT, arXiv 2609.24646; docs/recipes.md says how it was chosen"
    cost: ClassVar[str] = (
        "1.25 generations, teacher, base and own forwards, and backwards per prompt; the base as teacher and anchor"
    )
    when: ClassVar[str] = "To begin with: demonstrations, old skills matter, and earlier tasks' data may be kept."

    read_where: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "success_threshold": ({"distil": ("right", "right_if_any")},)
    }

    num_generations: int = Field(default=1, ge=1)
    divergence: Divergence = "reverse_kl"
    """On the lab it learnt more and lost less than the forward KL, with a weak or a strong anchor."""
    teacher_kind: TeacherKind = "frozen"
    """On the lab the retention suites lost more with `ema`, and far more with `gated`."""
    num_loss_tokens_to_skip: int = Field(default=0, ge=0)
    """None by default, unlike SDFT: answers may be short, and the lead-in of a still teacher is the base's own."""
    importance_cap: float = Field(default=2.0, gt=0)
    """As SDFT's."""
    ramp_steps: float = Field(default=0.5, ge=0)
    """As iSDFT's; half of a stage, however long it is."""
    mu: float = Field(default=0.02, ge=0)
    distil: Literal["all", "right", "right_if_any"] = "all"
    """Of a prompt's samples, where a verifier judges them: all, the right ones, or these where there are any."""
    success_threshold: float = Field(default=1.0, gt=0, le=1)
    replay_ratio: float = Field(default=0.25, ge=0)
    """Prompts of earlier tasks, sampled anew and taught like the others, per prompt of the stage."""
    buffer_size: int | None = Field(default=None, ge=1)
    """Examples kept of each earlier task, drawn by the run's seed; by default all."""

    def rollouts(self) -> RolloutSpec:
        return replace(super().rollouts(), replay_ratio=self.replay_ratio, replay_buffer_size=self.buffer_size)

    def objective(self) -> Objective:
        return replace(super().objective(), count_silent_rows=False)

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        numbers = super().annotate(groups)
        rows = [row for group in groups for row in group.rows]
        for group in groups:
            any_right = any(self._is_right(row) for row in group.rows)
            judged = self.distil == "right" or (self.distil == "right_if_any" and any_right)
            for row in group.rows:
                row.excluded = judged and row.verdict is not None and not self._is_right(row)
        shares = {
            "right_fraction": sum(self._is_right(row) for row in rows),
            "replayed_fraction": sum(row.replayed for row in rows),
        }
        return {**numbers, **{name: count / max(1, len(rows)) for name, count in shares.items()}}

    def _is_right(self, row: Row) -> bool:
        return row.verdict is not None and row.reward >= self.success_threshold
