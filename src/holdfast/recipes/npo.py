"""NPO: where most samples fail, one of them makes room for a right answer of the run's own near future."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from holdfast.data.rows import Group, Row
from holdfast.recipes.grpo import GRPO
from holdfast.recipes.parts.rollouts import GuideSpec


class Guided(GRPO):
    """GRPO on groups whose last sample has made room for a guide, where most of its samples fail."""

    guide_samples: int = Field(default=4, ge=1)
    """Reconstruction: how many answers the near future gives to each prompt is not stated where we could read it."""
    gate: float = Field(default=0.6, ge=0, le=1)
    """A group makes room where at most this share of its samples is right."""
    success_threshold: float = Field(default=1.0, gt=0, le=1)
    """Reward from which an answer is right. Reconstruction: with partial credit, that is not success."""

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        mixed, failing, guided = [], 0, 0
        for group in groups:
            own = group.sampled().rows
            guides = [row for row in group.rows if row.source_logprobs is not None]
            fails = sum(row.reward >= self.success_threshold for row in own) <= self.gate * len(own)
            failing += fails
            used: list[Row] = own
            for row in guides:
                row.excluded = True
            if fails and guides:
                own[-1].excluded = True
                used = [*own[:-1], guides[0]]
                guided += 1
            mixed.append(Group(group.example, used))
        numbers = super().annotate(mixed)
        return {
            **numbers,
            "failing_fraction": failing / max(1, len(groups)),
            "guided_fraction": guided / max(1, len(groups)),
        }


class NPO(Guided):
    """Near-future policy optimization (arXiv 2604.20733).

    Scout    from a stage's beginning GRPO goes Δ steps ahead; the model there answers the stage's prompts, its right
             answers y⁺ are kept, and the run goes back: weights, optimizer, draws and place in the data
    Rows     y_1..y_8 ~ student(x), temperature 1, judged; where p̂ = mean 1[R_i = 1] ≤ .6 and x has a y⁺, y_8 ← y⁺
    Signal   A_i = (R_i − mean R) / (std R + 1e-4) over the eight
    Loss     GRPO's on all eight; y⁺ counts as the student's own, its ratio begins at 1
    """

    name: ClassVar[str] = "npo"
    summary: ClassVar[str] = "GRPO that learns from right answers of the same run some steps ahead."
    source: ClassVar[str] = "NPO, arXiv 2604.20733"
    cost: ClassVar[str] = (
        "as grpo, and 4 generations more per prompt; once in a stage Δ steps more, and at most 128 forwards over guides"
    )
    when: ClassVar[str] = "A verifier, and prompts that samples solve too seldom for GRPO; costs part of the run twice."

    scout_steps: int = Field(default=20, ge=1)
    """Δ. The paper finds an interior optimum of quality over variance from 20 to 70 steps."""

    def guide(self) -> GuideSpec:
        return GuideSpec(
            kind="ahead",
            steps=self.scout_steps,
            samples=self.guide_samples,
            success_threshold=self.success_threshold,
        )
