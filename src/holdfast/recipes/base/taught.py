"""What all recipes with a teacher share: the settings that say which one, and how densely it teaches."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from holdfast.data.rows import Row
from holdfast.data.seeds import numpy_rng
from holdfast.recipes.base.recipe import Condition, Recipe
from holdfast.recipes.parts.teacher import StageStart, TeacherKind, TeacherSpec


class Taught(Recipe):
    """A recipe with a teacher."""

    read_where: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "ema_rate": ({"teacher_kind": ("ema",)},),
        "refresh_every": ({"teacher_kind": ("periodic", "gated")},),
        "refresh_share": ({"teacher_kind": ("periodic", "gated")},),
        "gate_rate": ({"teacher_kind": ("gated",)},),
        "gate_margin": ({"teacher_kind": ("gated",)},),
        "trust_region_mix": ({"teacher_kind": ("trust_region",)},),
        "stage_start": ({"teacher_kind": ("ema", "frozen", "periodic", "gated", "trust_region")},),
    }

    teacher_kind: TeacherKind = "ema"
    """`ema` follows the student slowly, `frozen` stays, `live` is the student itself; `periodic` is frozen and moves
    toward the student by the clock (StableSDPO, arXiv 2607.01763), `gated` where reward and lengths allow it (CGTR,
    arXiv 2606.03532), and `trust_region` is frozen, its distribution mixed with the student's (arXiv 2601.20802)."""
    ema_rate: float = Field(default=0.01, ge=0, le=1)
    refresh_every: int = Field(default=10, ge=1)
    """Of `periodic`: rollout batches between refreshes. Of `gated`: from one question to the gate to the next, a
    reconstruction: the paper warns of refreshes every one or two steps, and names no spacing."""
    refresh_share: float = Field(default=1.0, gt=0, le=1)
    """Of `periodic` and `gated`: how far a refresh moves the teacher to the student, StableSDPO's γ; 1 copies."""
    gate_rate: float = Field(default=0.2, gt=0, le=1)
    """Of `gated`: rate of the moving averages that it compares, a reconstruction."""
    gate_margin: float = Field(default=0.05, ge=0)
    """Of `gated`: how far the truncated share may rise, and relatively the 95th percentile of the length, and the tail
    still counts as safe: a reconstruction of "not rising" that leaves room for noise."""
    trust_region_mix: float = Field(default=0.01, gt=0, lt=1)
    """Of `trust_region`: the student's share of the logits."""
    stage_start: StageStart = "base"
    """What the teacher is when a stage begins."""
    token_mask_ratio: float = Field(default=0.0, ge=0, lt=1)
    """Share of a completion's tokens left out of the loss at random (density ablation of arXiv 2607.01763); the others
    count 1/(1 − ratio)-fold, a reconstruction, so that what a step weighs does not depend on the density."""

    def teacher(self) -> TeacherSpec | None:
        return self.teacher_spec()

    def teacher_spec(self, cadence: Literal["optimizer_step", "rollout_batch"] = "optimizer_step") -> TeacherSpec:
        """The teacher that these settings describe."""
        return TeacherSpec(
            kind=self.teacher_kind,
            rate=self.ema_rate,
            cadence=cadence,
            stage_start=self.stage_start,
            every=self.refresh_every,
            share=self.refresh_share,
            gate_rate=self.gate_rate,
            gate_margin=self.gate_margin,
            mix=self.trust_region_mix,
        )

    def required(self) -> frozenset[str]:
        return self.needs | {"reward"} if self.teacher_kind == "gated" else self.needs

    def mask_tokens(self, row: Row) -> None:
        """Leave a random part of the row's tokens out; which ones follows from the row's own seed."""
        if self.token_mask_ratio:
            drawn = numpy_rng(row.seed, "token mask").random(len(row.completion_ids))
            weight = 1 / (1 - self.token_mask_ratio)
            row.token_weights = [weight if u >= self.token_mask_ratio else 0.0 for u in drawn.tolist()]
