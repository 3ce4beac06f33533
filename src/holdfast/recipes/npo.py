"""NPO: if most samples of a prompt fail, a right answer from some steps later in the run replaces one of them."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from holdfast.data.rows import Group, Row
from holdfast.recipes.grpo import GRPO
from holdfast.recipes.parts.rollouts import NearFutureSpec


class NearFutureSettings(GRPO):
    """GRPO on groups in which a near-future answer replaces the last sample, if most samples fail."""

    guide_samples: int = Field(default=4, ge=1)
    """Near-future answers per prompt. Reconstruction: we could not find the paper's number."""
    max_success_fraction: float = Field(default=0.6, ge=0, le=1)
    """A group takes a near-future answer if at most this fraction of its samples is right."""
    success_threshold: float = Field(default=1.0, gt=0, le=1)
    """An answer with at least this reward is right. Reconstruction: partial credit is not success."""

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        mixed, failing, replaced = [], 0, 0
        for group in groups:
            own = group.sampled().rows
            near_future = [row for row in group.rows if row.source_logprobs is not None]
            fails = sum(row.reward >= self.success_threshold for row in own) <= self.max_success_fraction * len(own)
            failing += fails
            used: list[Row] = own
            for row in near_future:
                row.excluded = True
            if fails and near_future:
                own[-1].excluded = True
                # GRPO's annotation below clears `excluded` on the rows that it gets.
                used = [*own[:-1], near_future[0]]
                replaced += 1
            mixed.append(Group(group.example, used))
        metrics = super().annotate(mixed)
        return {
            **metrics,
            "failing_fraction": failing / max(1, len(groups)),
            "guided_fraction": replaced / max(1, len(groups)),
        }


class NPO(NearFutureSettings):
    """Near-future policy optimization (arXiv 2604.20733).

    Scout    at the start of a stage GRPO trains Δ steps ahead; the model there answers the stage's prompts, its right
             answers y⁺ are kept, and the run rolls back: weights, optimizer, random draws and position in the data
    Rows     y_1..y_8 ~ student(x), temperature 1, judged; if p̂ = mean 1[R_i = 1] ≤ .6 and x has a y⁺, y_8 ← y⁺
    Signal   A_i = (R_i − mean R) / (std R + 1e-4) over the eight
    Loss     GRPO's on all eight; y⁺ counts as the student's own, so its ratio starts at 1
    """

    name: ClassVar[str] = "npo"
    summary: ClassVar[str] = "GRPO that also learns from right answers that the same run gives some steps later."
    source: ClassVar[str] = "NPO, arXiv 2604.20733"
    cost: ClassVar[str] = (
        "as grpo, and 4 more generations per prompt; once per stage Δ more steps, and at most 128 forwards on "
        "near-future answers"
    )
    when: ClassVar[str] = "A verifier, and prompts that samples solve too rarely for GRPO. Part of the run runs twice."

    scout_steps: int = Field(default=20, ge=1)
    """Δ, the optimizer steps ahead. In the paper, quality/variance is best between 20 and 70 steps."""

    def near_future(self) -> NearFutureSpec:
        return NearFutureSpec(
            kind="ahead",
            steps=self.scout_steps,
            samples=self.guide_samples,
            success_threshold=self.success_threshold,
        )
