"""Singular values and leading subspaces, exact or randomized, and how two subspaces lie to each other.

Weights differ in the fifth digit where one looks for drift, and singular values in float32 are right to the seventh at
best. So the weights are taken in float32 and everything here is done in float64.

Exact means by the eigenvalues of the Gram matrix: right to about 1e-8 of the largest singular value for those near
zero, and to rounding for the others. Randomized means block Krylov iteration from a random start (Musco and Musco,
arXiv 1504.05477): power iteration that keeps all its powers. What it misses is bounded from its residual by Wedin's
theorem.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from holdfast.data.seeds import derive_seed
from holdfast.evaluate.drift.tall import Tall, gram, gram_times, times

EXACT_UP_TO = 2048
"""The short side up to which the Gram matrix costs less than the iteration would."""

OVERSAMPLING = 16
"""Random vectors beyond those asked for."""

PASSES = 8
"""Times that the iteration goes through a matrix at most."""

GOOD_ENOUGH = 0.01
"""Degrees of error of a subspace at which the iteration stops early."""

_NO_GAP = 1e-9
"""Of the largest singular value: below it, which vectors are the leading ones is an accident of rounding."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The leading part of a singular value decomposition.

    Attributes:
        values: descending; all of them [short] where exact, the k + 1 largest where randomized.
        value_errors: how far each may be off, from the residual; zeros where exact.
        right: the k leading right singular vectors [short, k].
        residual: the norm of MᵀU − VΣ over the k leading vectors; 0 where exact.
        is_exact: whether values are complete and exact.
    """

    values: Tensor
    value_errors: Tensor
    right: Tensor
    residual: float
    is_exact: bool

    @property
    def k(self) -> int:
        return self.right.shape[1]

    def gap(self, k: int) -> float:
        """Between singular value k and the next, no more than it surely is."""
        if k >= len(self.values):
            return float(self.values[k - 1])
        return float(self.values[k - 1] - self.values[k] - self.value_errors[k])

    def is_defined(self, k: int) -> bool:
        """Whether the subspace of the k leading vectors is more than an accident of rounding."""
        return not self.is_exact or self.gap(k) > _NO_GAP * float(self.values[0])

    def angle_error(self, k: int) -> float:
        """Degrees that the k leading vectors, left or right, may be off: Wedin's bound, residual over gap."""
        if self.is_exact:
            return 0.0
        gap = self.gap(k)
        return math.degrees(math.asin(self.residual / gap)) if self.residual < gap else 90.0

    def leading(self, k: int) -> Tensor:
        """The k first right singular vectors."""
        return self.right[:, :k]


def is_exact_cheap(matrix: Tall) -> bool:
    """Whether the exact decomposition costs no more than the randomized one."""
    return matrix.short <= EXACT_UP_TO


def spectrum(matrix: Tall, k: int, *, exact: bool) -> Spectrum:
    """Singular values and the k leading right singular vectors of a matrix.

    Args:
        k: at least 1, at most the short side.
        exact: by the Gram matrix; else by block Krylov iteration, from the same random start for all matrices with the
            same short side, so that equal matrices have equal errors.
    """
    if exact:
        squares, vectors = torch.linalg.eigh(gram(matrix))
        # What rounding of the Gram matrix makes of a singular value of zero is not one.
        squares = squares.flip(0)
        squares = squares.where(squares > matrix.short * torch.finfo(squares.dtype).eps * squares[0], 0.0)
        return Spectrum(squares.sqrt(), torch.zeros_like(squares), vectors.flip(1)[:, :k].contiguous(), 0.0, True)
    return _krylov(matrix, k)


def largest_value(matrix: Tall, *, exact: bool) -> tuple[float, float]:
    """The largest singular value of a matrix, and how far it may be off.

    One number that nothing is subtracted from: float32 gives it to five digits, and that is exact here.
    """
    if exact:
        return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram(matrix, torch.float32))[-1]))), 0.0
    found = _krylov(matrix, 1)
    return float(found.values[0]), float(found.value_errors[0])


def _krylov(matrix: Tall, k: int) -> Spectrum:
    width = min(matrix.short, k + OVERSAMPLING)
    random = torch.Generator().manual_seed(derive_seed("drift", matrix.short, width))
    block = torch.randn(matrix.short, width, generator=random, dtype=torch.float64)
    block = torch.linalg.qr(block).Q
    basis, images = block[:, :0], block[:, :0]
    while True:
        image = gram_times(matrix, block)
        basis, images = torch.cat((basis, block), 1), torch.cat((images, image), 1)
        found = _ritz(basis, images, k)
        room = min(matrix.short - basis.shape[1], PASSES * width - basis.shape[1])
        if room < width or found.angle_error(k) < GOOD_ENOUGH:
            return found
        rest = image - basis @ (basis.T @ image)
        if rest.norm() <= 1e-12 * image.norm():  # all that the start can reach
            return found
        block = torch.linalg.qr(rest).Q
        block = torch.linalg.qr(block - basis @ (basis.T @ block)).Q


def _ritz(basis: Tensor, images: Tensor, k: int) -> Spectrum:
    """What a basis [short, b] and MᵀM of it say about the k + 1 largest singular values."""
    small = basis.T @ images
    squares, vectors = torch.linalg.eigh((small + small.T) / 2)
    kept = min(k + 1, len(squares))
    squares = squares.flip(0)[:kept].clamp(min=0)
    vectors = vectors.flip(1)[:, :kept]
    right = basis @ vectors
    values = squares.sqrt()
    tiny = torch.finfo(values.dtype).tiny
    # Column i of MᵀU − VΣ, with U = MV/Σ; at once how far singular value i may be off.
    residual = (images @ vectors - right * squares) / values.clamp(min=tiny)
    leading = residual[:, :k]
    return Spectrum(
        values, residual.norm(dim=0), right[:, :k].contiguous(), float(torch.linalg.matrix_norm(leading, 2)), False
    )


def left_vectors(matrix: Tall, right: Tensor) -> Tensor:
    """The left singular subspace [long, k] that belongs to right singular vectors [short, k], orthonormal."""
    return torch.linalg.qr(times(matrix, right)).Q


def largest_angle(a: Tensor, b: Tensor) -> float:
    """The largest principal angle between two subspaces, in degrees, from orthonormal bases [n, k].

    By sine and cosine both: the cosine alone cannot tell angles below 1e-8 from none.
    """
    cosines = a.T @ b
    outside = b - a @ cosines
    sine = math.sqrt(max(0.0, float(torch.linalg.eigvalsh(outside.T @ outside)[-1])))
    return math.degrees(math.atan2(sine, float(torch.linalg.svdvals(cosines)[-1])))


def alignment(a: Tensor, b: Tensor) -> float:
    """How much of one subspace lies in another, ‖AᵀB‖²/k, from orthonormal bases [n, k]: 1 the same, k/n by chance."""
    return float((a.T @ b).square().sum()) / a.shape[1]
