"""What the sampler asks of whatever keeps the keys and values of its rows."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from holdfast.sampling.prefill import Prompt


class CacheRows(Protocol):
    """The rows that are being sampled, numbered from 0 without gaps."""

    mixed: bool
    """Whether rows of any length may join at any time; otherwise only all at once, and of equal length."""

    def join(self, prompts: Sequence[Prompt], copies: Sequence[int], room: int) -> Tensor:
        """Read prompts and add rows, after those that are there.

        Args:
            prompts: all different, the longest first, none longer than that of any row that is there.
            copies: how many rows of each.
            room: tokens that a row of the longest prompt may have at most, until more join.

        Returns:
            Hidden states [P, H] at the prompts' last tokens.
        """

    def step(self, tokens: Tensor) -> Tensor:
        """Give every row its next token [R]; hidden states [R, H] that predict the ones after."""

    def leave(self, ended: Sequence[int]) -> list[int]:
        """Let rows go; for each that stays, in its new order, the number that it had."""


def closed_up(count: int, gone: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Close the gaps that some of `count` places leave, by moving the last ones into them.

    Returns:
        For each place that is left, the place it was; of those that move, where they were and where they go.
    """
    left = count - len(gone)
    holes = [place for place in gone if place < left]
    movers = sorted(set(range(left, count)).difference(gone))
    order = list(range(left))
    for hole, mover in zip(holes, movers, strict=True):
        order[hole] = mover
    return order, movers, holes
