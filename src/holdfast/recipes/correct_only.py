"""Correct-only distillation: SDFT on the samples that are right."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.sdft import SDFT


class CorrectOnly(SDFT):
    """Correct-only distillation (arXiv 2605.06188): SDFT on the samples that a verifier accepts.

    Rows     y_1..y_4 ~ student(x), temperature 1, judged by the verifier
    Context, teacher and loss as in SDFT, on right answers only; mean over these
    """

    name: ClassVar[str] = "correct_only"
    needs: ClassVar[frozenset[str]] = frozenset({"privileged_context", "reward"})
    summary: ClassVar[str] = "SDFT on the samples that a verifier accepts, and no others."
    source: ClassVar[str] = "Correct-only distillation, arXiv 2605.06188"
    cost: ClassVar[str] = "4 generations per prompt; 1 teacher forward, 1 forward, 1 backward per right answer"
    when: ClassVar[str] = "Demonstrations and a verifier. It learns nothing from prompts on which no sample succeeds."

    num_generations: int = Field(default=4, ge=1)
    """Samples per prompt. Reconstruction: more than SDFT's one, so that hard prompts sometimes have a right answer."""
    distill: Literal["right", "wrong", "all"] = "right"
    """The samples to distill on. Reconstruction: `right` means that the student's own sample is right, because the
    divergence is computed on it; the paper speaks of the privileged outcome. `wrong` is its ablation, which harms."""
    success_threshold: float = Field(default=1.0, gt=0, le=1)
    """Reward from which an answer is right."""

    def objective(self) -> Objective:
        return replace(super().objective(), count_silent_rows=False)

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        super().annotate(groups)
        rows = [row for group in groups for row in group.rows]
        right = [row.reward >= self.success_threshold for row in rows]
        for row, is_right in zip(rows, right, strict=True):
            if self.distill != "all" and is_right != (self.distill == "right"):
                row.div = 0.0
        return {"right_fraction": sum(right) / max(1, len(rows))}
