"""Matrices as the decompositions want them: standing, in blocks of rows, never whole in float64.

A matrix [rows, columns] with fewer rows than columns is transposed, so that its Gram matrix is the small one. Left and
right singular vectors change places then; `Matrix.is_transposed` says so.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from holdfast.store.model_folder import Product

BLOCK = 2**20
"""Entries of a block of rows: small enough that what is computed from it stays in the processor's cache."""

WHOLE = 2**25
"""A matrix of up to so many entries is kept in float32 rather than converted for each pass over it."""

BLOCKS_MAPPED = 32
"""Blocks after which a large matrix is mapped anew, which gives back the memory of those before."""

STRIPS = 4
"""Strips that a symmetric product is computed in, so that little of it is computed twice."""


class Tall(Protocol):
    """A matrix [long, short], long ≥ short, that is gone through in blocks of rows, float32."""

    long: int
    short: int
    is_transposed: bool

    def blocks(self) -> Iterator[Tensor]:
        """All rows in order, in blocks [b, short]; the same blocks on every pass."""


class Matrix:
    """A weight matrix in float32, whatever it is stored in.

    Args:
        read: gives the matrix [rows, columns] in its stored dtype; asked for again and again while going through a
            large one, so that of a mapped file no more than a part is in memory.
        product: what an adapter adds, in float32.
        through: a dtype that every entry is converted to and back from.
    """

    def __init__(
        self, read: Callable[[], Tensor], product: Product | None = None, through: torch.dtype | None = None
    ) -> None:
        tensor = read()
        self.is_transposed = tensor.shape[0] < tensor.shape[1]
        self.long, self.short = max(tensor.shape), min(tensor.shape)
        if product is not None and self.is_transposed:
            product = Product(product.right.T, product.left.T)
        self._read, self._product, self._through = read, product, through
        self._whole = self._rows(tensor, 0, self.long) if tensor.numel() <= WHOLE else None

    def blocks(self) -> Iterator[Tensor]:
        rows = max(1, BLOCK // self.short)
        if self._whole is not None:
            yield from self._whole.split(rows)
            return
        for index, start in enumerate(range(0, self.long, rows)):
            if index % BLOCKS_MAPPED == 0:
                tensor = self._read()
            yield self._rows(tensor, start, min(self.long, start + rows))

    def _rows(self, tensor: Tensor, start: int, stop: int) -> Tensor:
        block = (tensor.T if self.is_transposed else tensor)[start:stop].float().contiguous()
        if self._product is not None:
            block = block + self._product.left[start:stop] @ self._product.right
        return block if self._through is None else block.to(self._through).float()


class Update:
    """What moved: after − before, block by block."""

    def __init__(self, before: Tall, after: Tall) -> None:
        self.long, self.short, self.is_transposed = before.long, before.short, before.is_transposed
        self._before, self._after = before, after

    def blocks(self) -> Iterator[Tensor]:
        return (after - before for before, after in zip(self._before.blocks(), self._after.blocks(), strict=True))


def gram(matrix: Tall, dtype: torch.dtype = torch.float64) -> Tensor:
    """The lower triangle of MᵀM [short, short], which is symmetric; above it, only what is cheap to have."""
    found = torch.zeros(matrix.short, matrix.short, dtype=dtype)
    strip = -(-matrix.short // STRIPS)
    for block in matrix.blocks():
        block = block.to(dtype)
        for start in range(0, matrix.short, strip):
            stop = min(start + strip, matrix.short)
            found[start:stop, :stop].addmm_(block[:, start:stop].T, block[:, :stop])
    return found


def gram_times(matrix: Tall, vectors: Tensor) -> Tensor:
    """MᵀM @ vectors for vectors [short, k], in float64, without the Gram matrix."""
    found = torch.zeros_like(vectors)
    for block in matrix.blocks():
        block = block.double()
        found.addmm_(block.T, block @ vectors)
    return found


def times(matrix: Tall, vectors: Tensor) -> Tensor:
    """M @ vectors [long, k] for vectors [short, k], in float64."""
    found = torch.empty(matrix.long, vectors.shape[1], dtype=vectors.dtype)
    start = 0
    for block in matrix.blocks():
        stop = start + len(block)
        torch.mm(block.double(), vectors, out=found[start:stop])
        start = stop
    return found
