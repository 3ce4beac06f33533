"""Which entries of a matrix moved, and whether they are those that matter: the element-wise side of drift.

- An entry w → ŵ is *unchanged* where |ŵ − w| ≤ η·max(|w|, |ŵ|) with η = 10⁻³, less than half of what bfloat16 can tell
  apart (arXiv 2511.08567, as restated in 2606.07082).
- The *principal mask* is the largest share of |entries| of the rank-k reconstruction of a matrix; the *low-magnitude
  mask* the smallest share of |entries| of the matrix itself (ibid.). Entries equal to the last one in are in.

Thresholds are exact: the order statistics of float32 magnitudes are found by counting their bits, in two passes: no
second copy of a large matrix is sorted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from holdfast.evaluate.drift.result import ETA
from holdfast.evaluate.drift.tall import Matrix

Magnitudes = Callable[[], Iterator[Tensor]]
"""Goes through non-negative float32 numbers in blocks; the same numbers every time."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Norms and counts over all entries of a pair.

    Attributes:
        before: Frobenius norm of W₀.
        after: of W_t.
        update: of W_t − W₀.
        unchanged: entries that are unchanged.
    """

    before: float
    after: float
    update: float
    unchanged: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """Entries of a pair that are in masks: principal mask of W₀ and of W_t, low-magnitude mask of W₀, changed.

    Attributes:
        principal: in the principal mask of W₀.
        principal_kept: of these, in the principal mask of W_t too.
        principal_changed: of these, changed.
        low_changed: in the low-magnitude mask and changed.
        changed: all changed entries.
    """

    principal: int
    principal_kept: int
    principal_changed: int
    low_changed: int
    changed: int


def is_changed(before: Tensor, after: Tensor) -> Tensor:
    """Entries that moved by more than η of the larger magnitude."""
    return (after - before).abs() > ETA * torch.maximum(before.abs(), after.abs())


def moved(before: Matrix, after: Matrix) -> Moved:
    """Norms and counts over all entries."""
    squares = [0.0, 0.0, 0.0]
    unchanged = 0
    for x, y in zip(before.blocks(), after.blocks(), strict=True):
        for index, block in enumerate((x, y, y - x)):
            squares[index] += float(torch.linalg.vector_norm(block, dtype=torch.float64)) ** 2
        unchanged += x.numel() - int(is_changed(x, y).sum())
    return Moved(squares[0] ** 0.5, squares[1] ** 0.5, squares[2] ** 0.5, unchanged)


def overlap(before: Matrix, after: Matrix, right_before: Tensor, right_after: Tensor, share: float) -> Overlap:
    """How the entries that changed lie to the masks, and how the principal mask itself moved.

    Args:
        right_before: leading right singular vectors of W₀ [short, k]; those of W_t in `right_after`.
        share: of the entries that each mask takes, above 0 and below 1.
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
    """Magnitudes of rows projected on leading right singular vectors: the best approximation of that rank."""
    return ((block @ right) @ right.T).abs_()


def kth_smallest(numbers: Magnitudes, k: int) -> float:
    """The k-th smallest (from 1) of non-negative float32 numbers, exactly.

    As integers, their bits are in the order of the numbers: the first pass counts the upper 16 bits, the second the
    lower 16 of those that agree with the answer in the upper.
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
