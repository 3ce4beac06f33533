"""Matrices in the form that the decompositions need: tall, in blocks of rows, never whole in float64.

A matrix [rows, columns] with fewer rows than columns is transposed, so that its Gram matrix is small. Left and right
singular vectors then swap roles; `Matrix.is_transposed` records it.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from holdfast.store.model_folder import Product

BLOCK = 2**20
"""Entries of a block of rows: small enough that results computed from it stay in the processor's cache."""

IN_MEMORY = 2**25
"""A matrix with at most this many entries is kept in float32. Larger ones are converted again on every pass."""

BLOCKS_MAPPED = 32
"""Blocks after which a large matrix is mapped again. This releases the memory of the blocks before."""

STRIPS = 4
"""Strips in which a symmetric product is computed, so that little of it is computed twice."""


class Tall(Protocol):
    """A matrix [long, short], long ≥ short, read in blocks of rows in float32."""

    long: int
    short: int
    is_transposed: bool

    def blocks(self) -> Iterator[Tensor]:
        """All rows in order, in blocks [b, short]. Every pass gives the same blocks."""


class Matrix:
    """A weight matrix in float32, stored in any dtype.

    Args:
        read: returns the matrix [rows, columns] in its stored dtype. Called repeatedly within a pass over a large
            matrix, so that only a part of a mapped file is in memory.
        product: the low-rank product that an adapter adds, in float32.
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
        self._in_memory = self._rows(tensor, 0, self.long) if tensor.numel() <= IN_MEMORY else None

    def blocks(self) -> Iterator[Tensor]:
        rows = max(1, BLOCK // self.short)
        if self._in_memory is not None:
            yield from self._in_memory.split(rows)
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
    """The update, after − before, block by block."""

    def __init__(self, before: Tall, after: Tall) -> None:
        self.long, self.short, self.is_transposed = before.long, before.short, before.is_transposed
        self._before, self._after = before, after

    def blocks(self) -> Iterator[Tensor]:
        return (after - before for before, after in zip(self._before.blocks(), self._after.blocks(), strict=True))


def gram(matrix: Tall, dtype: torch.dtype = torch.float64) -> Tensor:
    """MᵀM [short, short] in its lower triangle. Above it only some entries are filled in."""
    product = torch.zeros(matrix.short, matrix.short, dtype=dtype)
    strip = -(-matrix.short // STRIPS)
    for block in matrix.blocks():
        block = block.to(dtype)
        for start in range(0, matrix.short, strip):
            stop = min(start + strip, matrix.short)
            product[start:stop, :stop].addmm_(block[:, start:stop].T, block[:, :stop])
    return product


def gram_times(matrix: Tall, vectors: Tensor) -> Tensor:
    """MᵀM @ vectors for vectors [short, k], in float64, without forming MᵀM. One pass over the matrix."""
    product = torch.zeros_like(vectors)
    for block in matrix.blocks():
        block = block.double()
        product.addmm_(block.T, block @ vectors)
    return product


def times(matrix: Tall, vectors: Tensor) -> Tensor:
    """M @ vectors [long, k] for vectors [short, k], in float64. One pass over the matrix."""
    product = torch.empty(matrix.long, vectors.shape[1], dtype=vectors.dtype)
    start = 0
    for block in matrix.blocks():
        stop = start + len(block)
        torch.mm(block.double(), vectors, out=product[start:stop])
        start = stop
    return product
