"""Singular values and leading subspaces, exact or randomized, and the angle between two subspaces.

Trained weights may differ only in the fifth digit, and singular values computed in float32 are right to the sixth or
seventh. So the weights are read in float32, and everything here is computed in float64.

Exact: by the eigenvalues of the Gram matrix. Singular values near zero are right to about 1e-8 of the largest one, the
others to rounding. Randomized: by block Krylov iteration from a random start (Musco and Musco, arXiv 1504.05477), which
is power iteration that keeps all its powers. Wedin's theorem bounds its error from its residual.

Why not `torch.svd_lowrank` and `torch.linalg.svdvals`? `benchmarks/drift_svd.py` compares them on matrices with known
singular vectors, one thread, 64 leading vectors, 8 passes over the matrix. Singular value i is i^-0.2 or i^-0.7:

    4096 x 4096                angle error, degrees    error of values / largest    seconds    extra memory
    block Krylov (this file)   0.13      9e-6          4e-7      4e-11              2          144 MB
    svd_lowrank, float64       54        7             7e-3      7e-5               1.5        143 MB
    svdvals, float32           no vectors              7e-7      2e-7               5          68 MB

    1024 x 4096
    Gram matrix (this file)    6e-6      3e-6          3e-10     5e-11              0.4        69 MB
    torch.linalg.svd, float64  6e-6      3e-6          3e-10     5e-11              2          151 MB

`svd_lowrank` keeps only the last power, states no error, and needs the whole matrix in memory, which is 5 GB in float64
for the embedding of a large model. Here a matrix is read in blocks and never whole in float64.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from holdfast.data.seeds import derive_seed
from holdfast.evaluate.drift.tall import Tall, gram, gram_times, times

EXACT_UP_TO = 2048
"""The short side up to which the Gram matrix costs less than the iteration."""

OVERSAMPLING = 16
"""Random vectors in addition to those asked for."""

PASSES = 8
"""Largest number of passes of the iteration over a matrix."""

GOOD_ENOUGH = 0.01
"""Error of a subspace, in degrees, below which the iteration stops early."""

_NO_GAP = 1e-9
"""Share of the largest singular value. With a smaller gap, rounding decides which vectors are the leading ones."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The leading part of a singular value decomposition.

    Attributes:
        values: descending; all of them [short] if exact, the k + 1 largest if randomized.
        value_errors: bound on the error of each, from the residual; zeros if exact.
        right: the k leading right singular vectors [short, k].
        residual: the norm of MᵀU − VΣ over the k leading vectors; 0 if exact.
        is_exact: whether the values are complete and exact.
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
        """A lower bound of the difference between singular value k and the next one."""
        if k >= len(self.values):
            return float(self.values[k - 1])
        return float(self.values[k - 1] - self.values[k] - self.value_errors[k])

    def is_defined(self, k: int) -> bool:
        """Whether there is a gap after the k leading vectors, so that they define a subspace."""
        return not self.is_exact or self.gap(k) > _NO_GAP * float(self.values[0])

    def angle_error(self, k: int) -> float:
        """Wedin's bound on the error of the k leading vectors, left or right: residual over gap; at most 90 degrees."""
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
        exact: by the Gram matrix; otherwise by block Krylov iteration. Its random start is the same for all matrices
            with the same short side, so that equal matrices have equal errors.
    """
    if exact:
        squares, vectors = torch.linalg.eigh(gram(matrix))
        # Rounding of the Gram matrix turns a singular value of 0 into a small one, or makes its square negative.
        squares = squares.flip(0)
        squares = squares.where(squares > matrix.short * torch.finfo(squares.dtype).eps * squares[0], 0.0)
        return Spectrum(squares.sqrt(), torch.zeros_like(squares), vectors.flip(1)[:, :k].contiguous(), 0.0, True)
    return _krylov(matrix, k)


def largest_value(matrix: Tall, *, exact: bool) -> tuple[float, float]:
    """The largest singular value of a matrix, and a bound on its error.

    If exact, the Gram matrix is computed in float32: five digits are enough, because nothing is subtracted from it.
    """
    if exact:
        return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram(matrix, torch.float32))[-1]))), 0.0
    leading = _krylov(matrix, 1)
    return float(leading.values[0]), float(leading.value_errors[0])


def _krylov(matrix: Tall, k: int) -> Spectrum:
    width = min(matrix.short, k + OVERSAMPLING)
    random = torch.Generator().manual_seed(derive_seed("drift", matrix.short, width))
    block = torch.randn(matrix.short, width, generator=random, dtype=torch.float64)
    block = torch.linalg.qr(block).Q
    basis, images = block[:, :0], block[:, :0]
    while True:
        image = gram_times(matrix, block)
        basis, images = torch.cat((basis, block), 1), torch.cat((images, image), 1)
        best = _ritz(basis, images, k)
        room = min(matrix.short - basis.shape[1], PASSES * width - basis.shape[1])
        if room < width or best.angle_error(k) < GOOD_ENOUGH:
            return best
        rest = image - basis @ (basis.T @ image)
        if rest.norm() <= 1e-12 * image.norm():
            return best  # the Krylov space of this start is complete
        block = torch.linalg.qr(rest).Q
        # Twice, because one projection leaves the new block orthogonal to the basis only up to cancellation.
        block = torch.linalg.qr(block - basis @ (basis.T @ block)).Q


def _ritz(basis: Tensor, images: Tensor, k: int) -> Spectrum:
    """Rayleigh-Ritz: the k + 1 largest singular values within the span of a basis [short, b], from MᵀM @ basis."""
    small = basis.T @ images
    squares, vectors = torch.linalg.eigh((small + small.T) / 2)
    kept = min(k + 1, len(squares))
    squares = squares.flip(0)[:kept].clamp(min=0)
    vectors = vectors.flip(1)[:, :kept]
    right = basis @ vectors
    values = squares.sqrt()
    tiny = torch.finfo(values.dtype).tiny
    # Column i of MᵀU − VΣ with U = MV/Σ. Its norm bounds the error of singular value i.
    residual = (images @ vectors - right * squares) / values.clamp(min=tiny)
    leading = residual[:, :k]
    return Spectrum(
        values, residual.norm(dim=0), right[:, :k].contiguous(), float(torch.linalg.matrix_norm(leading, 2)), False
    )


def left_vectors(matrix: Tall, right: Tensor) -> Tensor:
    """An orthonormal basis [long, k] of the left singular subspace that belongs to right vectors [short, k]."""
    return torch.linalg.qr(times(matrix, right)).Q


def largest_angle(a: Tensor, b: Tensor) -> float:
    """The largest principal angle between two subspaces, in degrees, from orthonormal bases [n, k].

    Computed from sine and cosine, because the cosine alone cannot distinguish angles below 1e-8 from 0.
    """
    cosines = a.T @ b
    outside = b - a @ cosines
    sine = math.sqrt(max(0.0, float(torch.linalg.eigvalsh(outside.T @ outside)[-1])))
    return math.degrees(math.atan2(sine, float(torch.linalg.svdvals(cosines)[-1])))


def alignment(a: Tensor, b: Tensor) -> float:
    """How much of one subspace is in another, ‖AᵀB‖_F²/k, from orthonormal bases [n, k]: 1 if equal, k/n by chance."""
    return float((a.T @ b).square().sum()) / a.shape[1]
