"""StableOPD: on-policy distillation with a KL to the base and some demonstrations, against repetition loops."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from holdfast.data.batch_metrics import compression
from holdfast.data.rows import Group
from holdfast.recipes.base.conditions import Above, Condition
from holdfast.recipes.opsd import OPSD
from holdfast.recipes.parts.objective import Clip, Divergence, Objective
from holdfast.recipes.parts.rollouts import RolloutSpec

LOOPING = 10.0
"""A text that zlib compresses by more than this factor is a repetition loop (arXiv 2604.08527)."""


class StableOPD(OPSD):
    """Stabilized on-policy distillation (StableOPD, arXiv 2604.08527), here with the model itself as the teacher.

    Rows     y ~ student(x), one per prompt, temperature 1; and the demonstration of every fourth prompt
    Context  the reference solution, in the teacher's prompt only
    Teacher  the model before training
    Loss     on samples w · KL(p ‖ q) + beta · k3 estimate of KL(p ‖ b), p student, q teacher, b the base without the
             solution, w SDFT's correction of the row; on demonstrations −weight · log p(y_t | x, y_<t); mean over all
             tokens
    """

    name: ClassVar[str] = "stable_opd"
    needs: ClassVar[frozenset[str]] = frozenset({"privileged_context", "demonstration"})
    summary: ClassVar[str] = "On-policy distillation with a KL to the base and some demonstrations, against loops."
    source: ClassVar[str] = "StableOPD, arXiv 2604.08527"
    cost: ClassVar[str] = "1 generation, 1 teacher forward, 1 base forward per prompt; 1.25 forwards and backwards"
    when: ClassVar[str] = "As opsd, for long answers, if samples begin to repeat themselves or to be truncated."

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "demonstration_weight": ({"demonstration_share": Above(0)},)
    }

    divergence: Divergence = "reverse_kl"
    clip: Clip = "none"
    temperature: float = Field(default=1.0, gt=0)
    beta: float = Field(default=0.05, ge=0)
    """Coefficient of the KL to the base. Reconstruction: we know that the paper has one, but not its weight nor its
    estimate. The paper's snapshot is the student before training, which is the base."""
    demonstration_share: float = Field(default=0.25, ge=0, le=1)
    """Fraction of prompts whose demonstration is imitated too. Reconstruction: the paper mixes in curated rows; we do
    not know how many. They are spread evenly over the sampled prompts."""
    demonstration_weight: float = Field(default=1.0, ge=0)
    """Weight of a demonstration's token, relative to a sampled one. Reconstruction."""

    def required(self) -> frozenset[str]:
        return super().required() - (frozenset() if self.demonstration_share else {"demonstration"})

    def rollouts(self) -> RolloutSpec:
        share = self.demonstration_share
        return replace(super().rollouts(), with_demonstration=share > 0, demonstration_share=share or 1.0)

    def objective(self) -> Objective:
        return replace(super().objective(), reference_kl=self.beta)

    def signal(self) -> str:
        if not self.demonstration_share:
            return super().signal()
        return f"{super().signal()}; cross-entropy on {self.demonstration_share:g} demonstrations per prompt"

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        samples = [group.sampled() for group in groups]
        metrics = super().annotate(samples)
        own = [row for group in samples for row in group.rows]
        for row in own:
            row.base_kl = 1.0 if self.beta else 0.0
        for row in (row for group in groups for row in group.rows if not row.is_sampled):
            row.ce = self.demonstration_weight
        looping = sum(compression(row.completion) > LOOPING for row in own)
        return {**metrics, "looping_fraction": looping / max(1, len(own))}
