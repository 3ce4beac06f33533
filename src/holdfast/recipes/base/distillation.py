"""Settings that recipes with a teacher share: which teacher, which divergence, which correction.

Recipes inherit from the classes here and change defaults. The documentation shows these settings once, on a page of
their own.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from holdfast.data.rows import Row
from holdfast.data.seeds import numpy_rng
from holdfast.recipes.base.conditions import Condition
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.objective import Divergence, ImportanceLevel, Objective, Side, Support
from holdfast.recipes.parts.teacher import StageStart, TeacherKind, TeacherSpec

TOP_K = ("topk_tail", "topk_renormalized")
"""Supports of `top_k` entries."""


class CorrectionSettings(Recipe):
    """A recipe whose loss on samples is corrected for the sampler's probabilities."""

    importance_cap: float = Field(default=2.0, ge=1)
    """Cap on a token's ratio p_train/p_sampler. The divergence is multiplied by the mean ratio of the row.
    Reconstruction: the paper states no correction; this is SDFT's. The ratio differs from 1 only by rounding."""


class DivergenceSettings(CorrectionSettings):
    """A recipe whose divergence from the teacher can be chosen."""

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "jsd_beta": ({"divergence": ("jsd",)},),
        "forward_share": ({"divergence": ("mixed_kl",)},),
        "top_k": ({"support": TOP_K},),
        "top_k_by": ({"support": TOP_K},),
    }

    divergence: Divergence = "forward_kl"
    """Forward KL(teacher‖student), reverse KL(student‖teacher), the generalized JSD, or a weighted sum of both KLs."""
    jsd_beta: float = Field(default=0.5, gt=0, lt=1)
    """Weight of the teacher in the JSD's mixture."""
    forward_share: float = Field(default=0.5, gt=0, lt=1)
    """Weight of the forward KL in `mixed_kl`; the rest is the reverse KL's."""
    support: Support = "full"
    """The vocabulary entries that the divergence sums over. `topk_tail` adds one entry for all others,
    `topk_renormalized` drops them, `sampled` estimates from the sampled token alone."""
    top_k: int = Field(default=100, ge=1)
    """Number of entries of a top-k `support`."""
    top_k_by: Literal["divergence", "student", "teacher"] = "student"
    """Whose most likely entries a top-k `support` has. `divergence`: the teacher's for the forward KL, which weights
    entries by the teacher's probabilities; the student's otherwise."""

    def divergence_from_teacher(self, importance: ImportanceLevel = "sequence_mean") -> Objective:
        """The part of the objective that these settings describe."""
        by: Side = "student"
        if self.support in TOP_K:
            by_teacher = self.top_k_by == "divergence" and self.divergence == "forward_kl"
            by = "teacher" if by_teacher or self.top_k_by == "teacher" else "student"
        return Objective(
            divergence=self.divergence,
            jsd_beta=self.jsd_beta,
            forward_share=self.forward_share,
            support=self.support,
            top_k=self.top_k,
            top_k_by=by,
            importance=importance,
            importance_cap=self.importance_cap,
        )


class TeacherSettings(Recipe):
    """A recipe whose teacher can be chosen, and how many tokens it supervises."""

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "ema_rate": ({"teacher_kind": ("ema",)},),
        "refresh_every": ({"teacher_kind": ("periodic", "gated")},),
        "refresh_share": ({"teacher_kind": ("periodic", "gated")},),
        "refresh_average_rate": ({"teacher_kind": ("gated",)},),
        "refresh_length_margin": ({"teacher_kind": ("gated",)},),
        "trust_region_mix": ({"teacher_kind": ("trust_region",)},),
        "stage_start": ({"teacher_kind": ("ema", "frozen", "periodic", "gated", "trust_region")},),
    }

    teacher_kind: TeacherKind = "ema"
    """How the teacher's weights move. `ema` follows the student slowly. `frozen` stays. `live` is the student itself.
    `periodic` is frozen and moves toward the student every `refresh_every` rollout batches (StableSDPO,
    arXiv 2607.01763). `gated` is the gated teacher refresh CGTR (arXiv 2606.03532): it moves only if the reward has
    risen and completions have not grown. `trust_region` is frozen, and its distribution is mixed with the student's
    (arXiv 2601.20802). The gate of `gated` has nothing to do with `holdfast gate`, which judges a release."""
    ema_rate: float = Field(default=0.01, ge=0, le=1)
    """Rate of the `ema` teacher per update; 0 freezes it, 1 copies the student."""
    refresh_every: int = Field(default=10, ge=1)
    """Rollout batches between refreshes (`periodic`) or between checks (`gated`). Reconstruction, for `gated`: the
    paper warns of a refresh every one or two steps and gives no interval."""
    refresh_share: float = Field(default=1.0, gt=0, le=1)
    """How far a refresh moves the teacher toward the student; 1 copies. StableSDPO's γ; for `periodic` and `gated`."""
    refresh_average_rate: float = Field(default=0.2, gt=0, le=1)
    """Rate of the moving averages of reward and length that `gated` compares. Reconstruction: not stated."""
    refresh_length_margin: float = Field(default=0.05, ge=0)
    """How far completions may grow before `gated` refuses a refresh. The truncated fraction may rise by this much, and
    the 95th percentile of the length by this fraction. Reconstruction: the paper says "not rising"; the margin allows
    for noise."""
    trust_region_mix: float = Field(default=0.01, gt=0, lt=1)
    """Weight of the student's log-probabilities in the `trust_region` teacher."""
    stage_start: StageStart = "base"
    """The teacher at the start of a stage: the student as it is then, the teacher kept as it is, or the base."""
    token_mask_ratio: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of a completion's tokens that are left out of the loss at random (density ablation of
    arXiv 2607.01763). Reconstruction: the other tokens count 1/(1 − ratio) times, so that the size of a step does not
    depend on the ratio."""

    def teacher(self) -> TeacherSpec | None:
        return self.teacher_spec()

    def teacher_spec(self, cadence: Literal["optimizer_step", "rollout_batch"] = "optimizer_step") -> TeacherSpec:
        """The teacher that these settings describe; `cadence` is when an `ema` teacher moves."""
        return TeacherSpec(
            kind=self.teacher_kind,
            rate=self.ema_rate,
            cadence=cadence,
            stage_start=self.stage_start,
            every=self.refresh_every,
            share=self.refresh_share,
            average_rate=self.refresh_average_rate,
            length_margin=self.refresh_length_margin,
            mix=self.trust_region_mix,
        )

    def required(self) -> frozenset[str]:
        # A gated teacher is refreshed only if the reward rises, so it needs one.
        return self.needs | {"reward"} if self.teacher_kind == "gated" else self.needs

    def mask_tokens(self, row: Row) -> None:
        """Leave a random part of the row's tokens out of the loss. The row's own seed decides which."""
        if self.token_mask_ratio:
            draws = numpy_rng(row.seed, "token mask").random(len(row.completion_ids))
            weight = 1 / (1 - self.token_mask_ratio)
            row.token_weights = [weight if u >= self.token_mask_ratio else 0.0 for u in draws.tolist()]
