"""Which entries of a matrix changed, and whether they are in the principal or the low-magnitude mask.

- An entry w → ŵ is *unchanged* if |ŵ − w| ≤ η·max(|w|, |ŵ|) with η = 10⁻³. That is less than half the resolution of
  bfloat16 (arXiv 2511.08567, as restated in 2606.07082).
- The *principal mask* has the largest magnitudes of a matrix's rank-k reconstruction. The *low-magnitude mask* has the
  smallest magnitudes of the matrix itself (ibid.). Each takes a given share of the entries; ties at the threshold are
  all in.

Thresholds are exact order statistics of float32 magnitudes. They are found by counting bit patterns in two passes,
because sorting would need a second copy of a large matrix.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from holdfast.evaluate.drift.result import ETA
from holdfast.evaluate.drift.tall import Matrix

Magnitudes = Callable[[], Iterator[Tensor]]
"""Iterates over non-negative float32 numbers in blocks. Every call gives the same numbers."""


@dataclass(frozen=True, slots=True)
class Change:
    """Norms and counts over all entries of a pair of matrices.

    Attributes:
        before: Frobenius norm of W₀.
        after: of W_t.
        update: of W_t − W₀.
        unchanged: number of unchanged entries.
    """

    before: float
    after: float
    update: float
    unchanged: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """Numbers of entries of a pair of matrices that are in masks.

    Attributes:
        principal: in the principal mask of W₀.
        principal_kept: of these, also in the principal mask of W_t.
        principal_changed: of these, changed.
        low_changed: in the low-magnitude mask of W₀, and changed.
        changed: all changed entries.
    """

    principal: int
    principal_kept: int
    principal_changed: int
    low_changed: int
    changed: int


def is_changed(before: Tensor, after: Tensor) -> Tensor:
    """Entries that changed by more than η times the larger magnitude."""
    return (after - before).abs() > ETA * torch.maximum(before.abs(), after.abs())


def change(before: Matrix, after: Matrix) -> Change:
    """Norms and counts over all entries."""
    squares = [0.0, 0.0, 0.0]
    unchanged = 0
    for x, y in zip(before.blocks(), after.blocks(), strict=True):
        for index, block in enumerate((x, y, y - x)):
            squares[index] += float(torch.linalg.vector_norm(block, dtype=torch.float64)) ** 2
        unchanged += x.numel() - int(is_changed(x, y).sum())
    return Change(squares[0] ** 0.5, squares[1] ** 0.5, squares[2] ** 0.5, unchanged)


def overlap(before: Matrix, after: Matrix, right_before: Tensor, right_after: Tensor, share: float) -> Overlap:
    """How the changed entries overlap with the masks, and how the principal mask itself changed.

    Args:
        right_before: leading right singular vectors of W₀ [short, k].
        right_after: those of W_t.
        share: share of the entries in each mask, above 0 and below 1.
    """
    entries = before.long * before.short
    taken = max(1, round(share * entries))
    first, second = right_before.float(), right_after.float()
    least_before = kth_smallest(lambda: (_reconstructed(x, first) for x in before.blocks()), entries - taken + 1)
    least_after = kth_smallest(lambda: (_reconstructed(y, second) for y in after.blocks()), entries - taken + 1)
    low = kth_smallest(lambda: (x.abs() for x in before.blocks()), taken)
    counts = [0, 0, 0, 0, 0]
    for x, y in zip(before.blocks(), after.blocks(), strict=True):
        changed, principal, is_low = is_changed(x, y), _reconstructed(x, first) >= least_before, x.abs() <= low
        kept = principal & (_reconstructed(y, second) >= least_after)
        masks = (principal, kept, principal & changed, is_low & changed, changed)
        counts = [count + int(mask.sum()) for count, mask in zip(counts, masks)]
    return Overlap(*counts)


def _reconstructed(block: Tensor, right: Tensor) -> Tensor:
    """Magnitudes of rows projected on the leading right singular vectors, which is the best rank-k approximation."""
    return ((block @ right) @ right.T).abs_()


def kth_smallest(numbers: Magnitudes, k: int) -> float:
    """The k-th smallest (from 1) of non-negative float32 numbers, exactly.

    Read as integers, the bit patterns have the same order as the numbers. The first pass counts the upper 16 bits. The
    second counts the lower 16 bits of the numbers whose upper bits are those of the result.
    """
    counts = torch.zeros(2**15, dtype=torch.int64)
    for block in numbers():
        counts += torch.bincount(block.flatten().view(torch.int32) >> 16, minlength=2**15)
    upper = int(torch.searchsorted(counts.cumsum(0), k))
    k -= int(counts[:upper].sum())
    counts = torch.zeros(2**16, dtype=torch.int64)
    for block in numbers():
        bits = block.flatten().view(torch.int32)
        counts += torch.bincount(bits[bits >> 16 == upper] & 0xFFFF, minlength=2**16)
    lower = int(torch.searchsorted(counts.cumsum(0), k))
    return float(torch.tensor(upper << 16 | lower, dtype=torch.int32).view(torch.float32))
