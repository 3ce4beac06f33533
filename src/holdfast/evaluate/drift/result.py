"""What a comparison of two models found, per matrix and over the modules; imports without torch."""

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
    """How far one tensor W₀ → W_t moved. What does not apply, or is not defined, is None.

    Attributes:
        norm: ‖W₀‖_F.
        update_norm: ‖ΔW‖_F with ΔW = W_t − W₀.
        relative_norm: ‖ΔW‖_F / ‖W₀‖_F.
        unchanged: share of entries that are unchanged under the rule for bfloat16.
        spectral_shift: ‖σ(W_t) − σ(W₀)‖₂ / ‖σ(W₀)‖₂ over descending singular values, NSS in the papers; where the SVD
            is randomized, estimated from the k largest and the norms of the rest.
        spectral_shift_range: what it may be then: up to Mirsky's bound, the relative norm. None where exact.
        left_angle, right_angle: largest principal angle of the k leading singular subspaces, in degrees.
        angle_error: how far these may be off, in degrees; 0 where exact.
        gap: (σ_k − σ_{k+1}) / σ_k of W₀: where it is tiny, the subspaces turn at a breath.
        stable_rank: ‖ΔW‖_F² / ‖ΔW‖₂².
        stable_rank_error: how far it may be off.
        principal_overlap: share of W₀'s principal mask that is in W_t's.
        principal_changed: share of W₀'s principal mask that changed.
        changes_in_principal: share of the changed entries that are in W₀'s principal mask; the mask's size by chance.
        changes_in_low: share of the changed entries that are in W₀'s low-magnitude mask; the mask's size by chance.
        k: singular vectors that these were computed with.
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
"""The metrics whose median and mean over matrices are given."""

ANGLES = ("left_angle", "right_angle")


@dataclass(frozen=True, slots=True)
class Alignment:
    """How much of this update's leading subspace lies in an earlier one's, ‖VᵀV'‖_F²/k, left and right.

    Attributes:
        update: the earlier update's model.
        k: vectors of each subspace; two random ones in n dimensions read k/n.
    """

    update: str
    left: float | None
    right: float | None
    k: int


@dataclass(frozen=True, slots=True)
class MatrixDrift:
    """One tensor of both models.

    Attributes:
        name: as it is saved; an expert of a fused tensor has its number behind.
        module_type: the name without numbers, e.g. `self_attn.q_proj`.
        layer: the number of its layer; None outside of the layers.
        shape: rows and columns, or the length of a vector.
        dtypes: what it is stored in, in both models.
        method: `exact`, `randomized`, `identical` (no entry moved), `vector`, or `norms` for a
            matrix that was not decomposed (norm and entries only, both).
        measured: from the first model to the second.
        floor: from the first model to itself, converted to what the second is stored in and back.
        alignment: to each earlier update.
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
    """Metrics of some tensors together.

    Attributes:
        relative_norm: over all entries, those of vectors too: √Σ‖ΔW‖² / √Σ‖W₀‖².
        unchanged: over all entries, likewise.
        median, mean: of each metric where it is defined, over the matrices that moved, or over all where none did; the
            norms of matrices count alike here.
        largest: the largest `left_angle` and `right_angle` of these matrices, in degrees.
    """

    relative_norm: float | None
    unchanged: float | None
    median: dict[str, float | None]
    mean: dict[str, float | None]
    largest: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Summary(Pooled):
    """Some of the tensors together, from the first model to the second.

    Attributes:
        matrices: how many, vectors left out.
        unmoved: of these, those without an entry that moved. They are in no median, which would else tell how many
            matrices were trained rather than how far; where none moved, all are.
        parameters: all entries, those of vectors too.
        angle_error: the largest, in degrees.
        alignment: by earlier update, the mean over matrices, left and right.
        floor: the no-op control, over the same tensors and matrices.
    """

    matrices: int
    unmoved: int
    parameters: int
    angle_error: float | None
    alignment: dict[str, dict[str, float | None]]
    floor: Pooled

    @property
    def largest_angle(self) -> float | None:
        """The largest angle, left or right, in degrees."""
        return max((angle for angle in self.largest.values() if angle is not None), default=None)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def summarize(tensors: Sequence[MatrixDrift]) -> Summary:
    """Medians, means and totals over tensors."""
    matrices = [each for each in tensors if each.is_matrix]
    moved = [each for each in matrices if each.method != "identical"]
    counted = moved or matrices
    errors = [each.measured.angle_error for each in matrices if each.measured.angle_error is not None]
    updates = dict.fromkeys(alignment.update for each in matrices for alignment in each.alignment)
    return Summary(
        **_pooled(tensors, counted, lambda each: each.measured),
        matrices=len(matrices),
        unmoved=len(matrices) - len(moved),
        parameters=sum(each.entries for each in tensors),
        angle_error=max(errors, default=None),
        alignment={update: _aligned(matrices, update) for update in updates},
        floor=Pooled(**_pooled(tensors, counted, lambda each: each.floor)),
    )


def _pooled(
    tensors: Sequence[MatrixDrift], matrices: Sequence[MatrixDrift], of: Callable[[MatrixDrift], Metrics]
) -> dict[str, Any]:
    """The attributes of `Pooled`, of what was measured or of its floor: both are pooled in one way."""
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
    found = {}
    for name in names:
        values = [value for each in metrics if (value := getattr(each, name)) is not None]
        found[name] = together(values) if values else None
    return found


def _aligned(matrices: Sequence[MatrixDrift], update: str) -> dict[str, float | None]:
    """Mean alignment with one earlier update over the matrices that have it."""
    own = [alignment for each in matrices for alignment in each.alignment if alignment.update == update]
    sides = {"left": [each.left for each in own], "right": [each.right for each in own]}
    known = {side: [value for value in values if value is not None] for side, values in sides.items()}
    return {side: statistics.fmean(values) if values else None for side, values in known.items()}


@dataclass(frozen=True, slots=True)
class DriftResult:
    """The drift between two models.

    Attributes:
        a, b: the models as they were named.
        earlier: models on the way from `a` to `b`, by whose updates the last one is judged.
        rank, mask_share, exact: what it was measured with.
        matrices: every tensor that both have, in the order of layers.
        left_out: tensors that could not be compared, with the reason.
        notes: what to know when reading it.
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

    def overall(self) -> Summary:
        """All tensors together. `mean["spectral_shift"]` is the papers' NSS, `largest_angle` their largest angle."""
        return summarize(self.matrices)

    def by_type(self) -> dict[str, Summary]:
        """Tensors of one module type together, in the order of their first layer."""
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
