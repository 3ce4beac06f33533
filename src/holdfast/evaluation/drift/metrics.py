"""The metrics of one pair of matrices, defined as in their sources; see `holdfast.evaluation.drift.result.Metrics`."""

import math
from typing import Any

from torch import Tensor

from holdfast.evaluation.drift.masks import Change, overlap
from holdfast.evaluation.drift.result import Metrics
from holdfast.evaluation.drift.subspaces import (
    Spectrum,
    alignment,
    largest_angle,
    largest_value,
    left_vectors,
    spectrum,
)
from holdfast.evaluation.drift.tall import Matrix, Tall, Update, times

_ROUNDING = 2.0**-24
"""Relative error of a number in float32."""


class Decomposed:
    """The leading part of the decomposition of a matrix or an update.

    Args:
        k: number of leading singular vectors.
        noise: singular values up to this are rounding error.
        exact: whether to decompose exactly.

    Attributes:
        rank: leading singular values above the noise.
    """

    def __init__(self, matrix: Tall, k: int, noise: float, *, exact: bool) -> None:
        self.spectrum: Spectrum = spectrum(matrix, k, exact=exact)
        self.rank = int((self.spectrum.values[:k] > noise).sum())
        self.is_transposed = matrix.is_transposed
        self._matrix = matrix
        self._left: dict[int, Tensor] = {}

    def right(self, k: int) -> Tensor:
        """The k leading right singular vectors [short, k]."""
        return self.spectrum.right[:, :k]

    def left(self, k: int) -> Tensor:
        """The k leading left singular vectors [long, k], up to a rotation among them."""
        if k not in self._left:
            # Only the last k is kept. Left vectors are as large as k columns of the matrix.
            self._left = {k: left_vectors(self._matrix, self.right(k))}
        return self._left[k]

    def input_factor(self) -> Tensor:
        """F [inputs, rank], the leading part of ΔᵀΔ = F Fᵀ for an update Δ [outputs, inputs]."""
        right = self.right(self.rank)
        return times(self._matrix, right) if self.is_transposed else right * self.spectrum.values[: self.rank]


def leading(matrix: Tall, rank: int) -> int:
    """Number of leading singular vectors: `rank`, but at most a quarter of the short side.

    The first 64 vectors of a small matrix may span the whole space, and a whole space cannot turn.
    """
    return max(1, min(rank, matrix.short // 4))


def noise(matrix: Tall, norm: float) -> float:
    """Approximately the largest singular value of the rounding error of a float32 matrix with this Frobenius norm."""
    typical = norm / math.sqrt(matrix.long * matrix.short)
    return _ROUNDING * typical * (math.sqrt(matrix.long) + math.sqrt(matrix.short))


def vector_metrics(counts: Change, entries: int) -> Metrics:
    """Metrics of a vector, or of a matrix that is not decomposed: norms and unchanged entries."""
    relative = counts.update / counts.before if counts.before else (None if counts.update else 0.0)
    return Metrics(counts.before, counts.update, relative, counts.unchanged / entries)


def unmoved_metrics(counts: Change) -> Metrics:
    """Metrics of a matrix of which no entry changed at all."""
    return Metrics(
        counts.before,
        0.0,
        0.0,
        1.0,
        spectral_shift=0.0,
        left_angle=0.0,
        right_angle=0.0,
        angle_error=0.0,
        principal_overlap=1.0,
        principal_changed=0.0,
    )


def matrix_metrics(
    before: Matrix, after: Matrix, counts: Change, start: Decomposed | None, *, rank: int, share: float, exact: bool
) -> Metrics:
    """All metrics of a pair of different matrices.

    Args:
        counts: the change of this pair.
        start: the decomposition of W₀; None if its norm is 0.
        rank: see `leading`.
        share: share of the entries in each mask.
    """
    plain = vector_metrics(counts, before.long * before.short)
    top, top_error = largest_value(Update(before, after), exact=exact)
    square = counts.update**2
    metrics: dict[str, Any] = {
        "stable_rank": square / top**2 if top else None,
        "stable_rank_error": square / top**2 - square / (top + top_error) ** 2 if top else None,
    }
    if start is not None:
        end = Decomposed(after, leading(after, rank), noise(after, counts.after), exact=exact)
        shift, bounds = _spectral_shift(start.spectrum, end.spectrum, counts, before.long)
        metrics |= {"spectral_shift": shift, "spectral_shift_range": bounds}
        k = min(start.rank, end.rank)
        if k:
            metrics |= {"k": k, "gap": _gap(start.spectrum, k)}
            metrics |= _angles(start, end, k, before.is_transposed) | _overlaps(before, after, start, end, k, share)
    return Metrics(**{name: getattr(plain, name) for name in Metrics.__slots__} | metrics)


def _spectral_shift(
    start: Spectrum, end: Spectrum, counts: Change, long: int
) -> tuple[float, tuple[float, float] | None]:
    """‖σ(W_t) − σ(W₀)‖₂ / ‖σ(W₀)‖₂, and its bounds if only the largest singular values are known.

    Of the other singular values only the norm is known. The estimate assumes that the rest of the update is unrelated
    to the rest of W₀. It then changes each singular value by uᵀΔWv, whose square is ‖ΔW‖²/(rows·columns) on average.
    By the triangle inequality the shift is at least the difference of the norms. By Mirsky's theorem it is at most
    ‖ΔW‖_F.
    """
    if start.is_exact:
        return float((end.values - start.values).norm()) / counts.before, None
    k = min(start.k, end.k)
    head = float((end.values[:k] - start.values[:k]).norm())
    unsure = float((end.value_errors[:k] + start.value_errors[:k]).norm())
    rests = [
        math.sqrt(max(0.0, norm**2 - float(each.values[:k].square().sum())))
        for norm, each in ((counts.before, start), (counts.after, end))
    ]
    low = max(head - unsure, abs(counts.after - counts.before))
    unrelated = math.sqrt(max(0.0, counts.update**2 - head**2) / long)
    shift = min(max(math.hypot(head, rests[1] - rests[0], unrelated), low), counts.update)
    return shift / counts.before, (low / counts.before, counts.update / counts.before)


def _gap(of: Spectrum, k: int) -> float:
    following = float(of.values[k]) if k < len(of.values) else 0.0
    return 1 - following / float(of.values[k - 1])


def _angles(start: Decomposed, end: Decomposed, k: int, is_transposed: bool) -> dict[str, float]:
    if not (start.spectrum.is_defined(k) and end.spectrum.is_defined(k)):
        return {}
    long = largest_angle(start.left(k), end.left(k))
    short = largest_angle(start.right(k), end.right(k))
    return {
        "left_angle": short if is_transposed else long,
        "right_angle": long if is_transposed else short,
        "angle_error": min(90.0, start.spectrum.angle_error(k) + end.spectrum.angle_error(k)),
    }


def _overlaps(
    before: Matrix, after: Matrix, start: Decomposed, end: Decomposed, k: int, share: float
) -> dict[str, float | None]:
    counts = overlap(before, after, start.right(k), end.right(k), share)
    return {
        "principal_overlap": counts.principal_kept / counts.principal,
        "principal_changed": counts.principal_changed / counts.principal,
        "changes_in_principal": counts.principal_changed / counts.changed if counts.changed else None,
        "changes_in_low": counts.low_changed / counts.changed if counts.changed else None,
    }


def update_alignment(own: Decomposed, earlier: Decomposed) -> tuple[float | None, float | None, int]:
    """How much of an update's leading subspaces is in those of an earlier update: left, right, and number of vectors.

    None if one of the two updates is only rounding error.
    """
    k = min(own.rank, earlier.rank)
    if not k:
        return None, None, 0
    long = alignment(own.left(k), earlier.left(k))
    short = alignment(own.right(k), earlier.right(k))
    return (short, long, k) if own.is_transposed else (long, short, k)
