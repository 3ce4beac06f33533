"""RFT: imitate the model's own right answers."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.recipes.base.conditions import Condition
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.parts.rollouts import RolloutSpec


class RFT(Recipe):
    """Iterative rejection fine-tuning, as in Retaining by Doing (arXiv 2510.18874).

    Rows     y_1..y_4 ~ student(x), temperature 1, new for every step, judged by the verifier
    Loss     −log p(y_t | x, y_<t) · min(p_train/p_sampler, 2) on right answers only;
             mean over a row's tokens, then over right answers

    With `samples: once` the rows are those of the base, the same each time. The paper finds that this forgets.
    """

    name: ClassVar[str] = "rft"
    needs: ClassVar[frozenset[str]] = frozenset({"reward"})
    summary: ClassVar[str] = "Imitate the model's own right answers."
    source: ClassVar[str] = "Retaining by Doing, arXiv 2510.18874"
    cost: ClassVar[str] = "4 generations per prompt; 1 forward, 1 backward per right answer"
    when: ClassVar[str] = "A verifier and some successes, for a simple method that forgets little."

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {"importance_cap": ({"samples": ("fresh",)},)}

    samples: Literal["fresh", "once"] = "fresh"
    """`fresh`: the student's own, drawn anew for every step. `once`: the base's, drawn before training, for comparison:
    a prompt has the same answers each time it comes. They are not stored but drawn again from the same random draws, so
    each time counts as cost."""
    num_generations: int = Field(default=4, ge=1)
    """Samples per prompt. Reconstruction: the paper samples anew in every epoch and does not give one number for all
    models."""
    num_iterations: int = Field(default=1, ge=1)
    """Optimizer steps per rollout batch. The paper's epoch on its samples is one step on a larger batch."""
    success_threshold: float = Field(default=1.0, gt=0, le=1)
    """Reward from which an answer is right."""
    most_per_prompt: int | None = Field(default=None, ge=1)
    """Maximum number of right answers that are imitated per prompt, the first ones. None for all: easy prompts then
    have more weight."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature."""
    importance_cap: float = Field(default=2.0, ge=1)
    """Cap on a token's ratio p_train/p_sampler. The token's loss is multiplied by it."""

    def rollouts(self) -> RolloutSpec:
        once = self.samples == "once"
        return RolloutSpec(
            source="base" if once else "student",
            once=once,
            num_generations=self.num_generations,
            temperature=self.temperature,
            num_iterations=self.num_iterations,
        )

    def objective(self) -> Objective:
        return Objective(
            aggregation="sequence_mean",
            count_silent_rows=False,
            importance="token" if self.samples == "fresh" else "none",
            importance_cap=self.importance_cap,
            temperature=self.temperature,
        )

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        right = solved = 0
        for group in groups:
            successes = [row for row in group.rows if row.reward >= self.success_threshold]
            right += len(successes)
            solved += bool(successes)
            for row in successes[: self.most_per_prompt]:
                row.ce = 1.0
        rows = sum(len(group.rows) for group in groups)
        return {"right_fraction": right / max(1, rows), "success_group_fraction": solved / max(1, len(groups))}
