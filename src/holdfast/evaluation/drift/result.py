"""The result of a drift measurement: metrics by matrix, and pooled over modules. Imports without torch."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

ETA = 1e-3
"""The relative change up to which an entry counts as unchanged (arXiv 2511.08567)."""

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Metrics:
    """How far one tensor W₀ → W_t moved. A metric that does not apply, or is not defined, is None.

    Attributes:
        norm: ‖W₀‖_F.
        update_norm: ‖ΔW‖_F with ΔW = W_t − W₀.
        relative_norm: ‖ΔW‖_F / ‖W₀‖_F.
        unchanged: share of unchanged entries; see `holdfast.evaluation.drift.masks`.
        spectral_shift: ‖σ(W_t) − σ(W₀)‖₂ / ‖σ(W₀)‖₂ over descending singular values, NSS in the papers. With a
            randomized SVD it is estimated from the k largest singular values and the norm of the others.
        spectral_shift_range: bounds of the estimate; the upper one is Mirsky's, the relative norm. None if exact.
        left_angle, right_angle: largest principal angle between the k leading singular subspaces, in degrees.
        angle_error: bound on the error of both, in degrees; 0 if exact.
        gap: (σ_k − σ_{k+1}) / σ_k of W₀. If it is tiny, a tiny update can turn the subspaces far.
        stable_rank: ‖ΔW‖_F² / ‖ΔW‖₂².
        stable_rank_error: bound on its error.
        principal_overlap: share of W₀'s principal mask that is in W_t's.
        principal_changed: share of W₀'s principal mask that changed.
        changes_in_principal: share of the changed entries that are in W₀'s principal mask. By chance it is the mask's
            share.
        changes_in_low: share of the changed entries that are in W₀'s low-magnitude mask. By chance likewise.
        k: number of leading singular vectors used.
    """

    norm: float
    update_norm: float
    relative_norm: float | None
    unchanged: float
    spectral_shift: float | None = None
    spectral_shift_range: Range | None = None
    left_angle: float | None = None
    right_angle: float | None = None
    angle_error: float | None = None
    gap: float | None = None
    stable_rank: float | None = None
    stable_rank_error: float | None = None
    principal_overlap: float | None = None
    principal_changed: float | None = None
    changes_in_principal: float | None = None
    changes_in_low: float | None = None
    k: int | None = None


SUMMARIZED = (
    "relative_norm",
    "unchanged",
    "spectral_shift",
    "left_angle",
    "right_angle",
    "stable_rank",
    "principal_overlap",
    "principal_changed",
    "changes_in_principal",
    "changes_in_low",
)
"""Metrics that are summarized by their median and mean over matrices."""

ANGLES = ("left_angle", "right_angle")


@dataclass(frozen=True, slots=True)
class Alignment:
    """How much of this update's leading subspace is in an earlier update's: ‖VᵀV'‖_F²/k, left and right.

    Attributes:
        update: the model at the end of the earlier update.
        k: vectors of each subspace. By chance, two subspaces in n dimensions have the alignment k/n.
    """

    update: str
    left: float | None
    right: float | None
    k: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """Conflicts of the updates of a stream so far; see `holdfast.evaluation.drift.conflict`.

    Attributes:
        pairwise: mean over all pairs of updates.
        state: mean over all updates of the conflict with the state.
    """

    pairwise: float
    state: float

    @property
    def gap(self) -> float:
        """The state-relative gap: how much more the updates conflict with the state than with each other."""
        return self.state - self.pairwise


@dataclass(frozen=True, slots=True)
class MatrixDrift:
    """One tensor of both models.

    Attributes:
        name: as saved; an expert of a fused tensor has its number appended.
        module_type: the name without numbers, e.g. `self_attn.q_proj`.
        layer: the number of its layer; None outside the layers.
        shape: rows and columns, or the length of a vector.
        dtypes: as stored in the two models.
        method: `exact`, `randomized`, `identical` (no entry changed), `vector`, or `norms` for a matrix that was not
            decomposed. The last two have only norms and unchanged entries.
        measured: from the first model to the second.
        floor: from the first model to itself, after conversion to the second model's dtype and back.
        alignment: with each earlier update.
        conflict: of all updates so far; None without an earlier update, or if fewer than two updates moved the matrix.
    """

    name: str
    module_type: str
    layer: int | None
    shape: tuple[int, ...]
    dtypes: tuple[str, str]
    method: str
    measured: Metrics
    floor: Metrics
    alignment: tuple[Alignment, ...] = ()
    conflict: Conflict | None = None

    @property
    def entries(self) -> int:
        return math.prod(self.shape)

    @property
    def is_matrix(self) -> bool:
        return len(self.shape) > 1

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Pooled:
    """Metrics of several tensors together.

    Attributes:
        relative_norm: over all entries, vectors included: √Σ‖ΔW‖² / √Σ‖W₀‖².
        unchanged: share of unchanged entries, likewise.
        median, mean: of each metric, over the matrices that moved and for which it is defined. If no matrix moved, over
            all matrices. Every matrix has the same weight.
        largest: the largest `left_angle` and `right_angle` of these matrices, in degrees.
    """

    relative_norm: float | None
    unchanged: float | None
    median: dict[str, float | None]
    mean: dict[str, float | None]
    largest: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class DriftSummary(Pooled):
    """Several tensors together, from the first model to the second.

    Attributes:
        matrices: number of matrices, vectors not included.
        unmoved: number of matrices of which no entry changed. They are in no median, which would otherwise show how
            many matrices were trained rather than how far they moved. If none moved, all are in.
        parameters: number of all entries, vectors included.
        angle_error: the largest error bound of an angle, in degrees.
        alignment: by earlier update, the mean over matrices, left and right.
        conflict: mean over the matrices that have it.
        floor: the no-op floor, over the same tensors and matrices.
    """

    matrices: int
    unmoved: int
    parameters: int
    angle_error: float | None
    alignment: dict[str, dict[str, float | None]]
    conflict: Conflict | None
    floor: Pooled

    @property
    def largest_angle(self) -> float | None:
        """The largest angle, left or right, in degrees."""
        return max((angle for angle in self.largest.values() if angle is not None), default=None)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def summarize(tensors: Sequence[MatrixDrift]) -> DriftSummary:
    """Medians, means and totals over tensors."""
    matrices = [each for each in tensors if each.is_matrix]
    moved = [each for each in matrices if each.method != "identical"]
    counted = moved or matrices
    errors = [each.measured.angle_error for each in matrices if each.measured.angle_error is not None]
    updates = dict.fromkeys(alignment.update for each in matrices for alignment in each.alignment)
    return DriftSummary(
        **_pooled(tensors, counted, lambda each: each.measured),
        matrices=len(matrices),
        unmoved=len(matrices) - len(moved),
        parameters=sum(each.entries for each in tensors),
        angle_error=max(errors, default=None),
        alignment={update: _aligned(matrices, update) for update in updates},
        conflict=_mean_conflict(matrices),
        floor=Pooled(**_pooled(tensors, counted, lambda each: each.floor)),
    )


def _pooled(
    tensors: Sequence[MatrixDrift], matrices: Sequence[MatrixDrift], of: Callable[[MatrixDrift], Metrics]
) -> dict[str, Any]:
    """The attributes of `Pooled`, either of the measured metrics or of the floor."""
    every, parameters = [of(each) for each in tensors], sum(each.entries for each in tensors)
    norm = math.hypot(*(each.norm for each in every))
    own = [of(each) for each in matrices]
    return {
        "relative_norm": math.hypot(*(each.update_norm for each in every)) / norm if norm else None,
        "unchanged": sum(of(each).unchanged * each.entries for each in tensors) / parameters if parameters else None,
        "median": _over(own, SUMMARIZED, statistics.median),
        "mean": _over(own, SUMMARIZED, statistics.fmean),
        "largest": _over(own, ANGLES, max),
    }


def _over(
    metrics: Sequence[Metrics], names: Sequence[str], together: Callable[[list[float]], float]
) -> dict[str, float | None]:
    pooled = {}
    for name in names:
        values = [value for each in metrics if (value := getattr(each, name)) is not None]
        pooled[name] = together(values) if values else None
    return pooled


def _aligned(matrices: Sequence[MatrixDrift], update: str) -> dict[str, float | None]:
    """Mean alignment with one earlier update over the matrices that have it."""
    own = [alignment for each in matrices for alignment in each.alignment if alignment.update == update]
    sides = {"left": [each.left for each in own], "right": [each.right for each in own]}
    known = {side: [value for value in values if value is not None] for side, values in sides.items()}
    return {side: statistics.fmean(values) if values else None for side, values in known.items()}


def _mean_conflict(matrices: Sequence[MatrixDrift]) -> Conflict | None:
    known = [each.conflict for each in matrices if each.conflict is not None]
    if not known:
        return None
    return Conflict(statistics.fmean(c.pairwise for c in known), statistics.fmean(c.state for c in known))


@dataclass(frozen=True, slots=True)
class DriftResult:
    """The drift between two models.

    Attributes:
        a, b: the models as the user named them.
        earlier: models on the way from `a` to `b`. The last update is compared with their updates.
        rank, mask_share, exact: the settings of the measurement.
        matrices: every tensor that both models have, by layer.
        left_out: tensors that could not be compared, with the reason.
        notes: remarks for the reader of the result.
    """

    a: str
    b: str
    earlier: tuple[str, ...]
    rank: int
    mask_share: float
    exact: bool
    matrices: tuple[MatrixDrift, ...]
    left_out: dict[str, str]
    notes: tuple[str, ...]

    def overall(self) -> DriftSummary:
        """All tensors together. `mean["spectral_shift"]` is the papers' NSS; `largest_angle` is their largest angle."""
        return summarize(self.matrices)

    def by_type(self) -> dict[str, DriftSummary]:
        """The tensors of each module type together, in the order of their first layer."""
        types = dict.fromkeys(each.module_type for each in self.matrices)
        return {kind: summarize([each for each in self.matrices if each.module_type == kind]) for kind in types}

    def most_moved(self, count: int) -> list[MatrixDrift]:
        """The matrices with the largest relative norm, largest first."""
        known = [each for each in self.matrices if each.is_matrix and each.measured.relative_norm is not None]
        return sorted(known, key=lambda each: -(each.measured.relative_norm or 0.0))[:count]

    def as_json(self) -> dict[str, Any]:
        """Plain data: settings, `overall`, `by_type` and `matrices`."""
        settings = {"rank": self.rank, "mask_share": self.mask_share, "eta": ETA, "exact": self.exact}
        return {
            "a": self.a,
            "b": self.b,
            "earlier": list(self.earlier),
            "settings": settings,
            "overall": self.overall().as_json(),
            "by_type": {kind: summary.as_json() for kind, summary in self.by_type().items()},
            "matrices": [each.as_json() for each in self.matrices],
            "left_out": self.left_out,
            "notes": list(self.notes),
        }
