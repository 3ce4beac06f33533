"""What recipes share that learn from a divergence on the student's own samples: which one, over what, how corrected."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from holdfast.recipes.base.recipe import Condition, Recipe
from holdfast.recipes.parts.objective import Divergence, ImportanceLevel, Objective, Side, Support

TOP_K = ("topk_tail", "topk_renormalized")
"""Supports that have so many entries."""


class Corrected(Recipe):
    """A recipe that corrects its loss on the student's samples for who drew them."""

    importance_cap: float = Field(default=2.0, ge=1)
    """Most that a token's p_train/p_sampler counts for; the divergence is multiplied by its mean over the row.
    Reconstruction: the paper states no correction, and this is SDFT's. It is 1 but for the sampler's rounding."""


class Distilled(Corrected):
    """A recipe whose divergence from the teacher can be chosen."""

    read_where: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "jsd_beta": ({"divergence": ("jsd",)},),
        "top_k": ({"support": TOP_K},),
        "top_k_by": ({"support": TOP_K},),
    }

    divergence: Divergence = "forward_kl"
    jsd_beta: float = Field(default=0.5, gt=0, lt=1)
    """Of `divergence: jsd`: the teacher's weight in the mixture."""
    support: Support = "full"
    top_k: int = Field(default=100, ge=1)
    """Entries of a top-k `support`."""
    top_k_by: Literal["divergence", "student", "teacher"] = "student"
    """Whose most likely entries a top-k `support` has; `divergence`: the teacher's for the forward KL, which weighs
    entries by the teacher's probabilities, and the student's for the others."""

    def divergence_from_teacher(self, importance: ImportanceLevel = "sequence_mean") -> Objective:
        """The objective as far as these settings describe it."""
        by: Side = "student"
        if self.support in TOP_K:
            by_teacher = self.top_k_by == "divergence" and self.divergence == "forward_kl"
            by = "teacher" if by_teacher or self.top_k_by == "teacher" else "student"
        return Objective(
            divergence=self.divergence,
            jsd_beta=self.jsd_beta,
            support=self.support,
            top_k=self.top_k,
            top_k_by=by,
            importance=importance,
            importance_cap=self.importance_cap,
        )
