"""NPO: where most samples fail, one of them makes room for a right answer of the run's own near future."""

from typing import ClassVar

from pydantic import Field

from holdfast.recipes.base.guided import Guided
from holdfast.recipes.parts.rollouts import GuideSpec


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
