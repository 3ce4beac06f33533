"""What the sampler asks of a decoding batch: the rows that are sampled together, with their keys and values.

A row is one completion in progress. In the terms of transformers, a decoding batch is a `Cache` together with
everything that each forward pass needs in addition to the tokens: positions, attention mask, and the place of each row.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from holdfast.sampling.prefill import Prompt


class DecodingBatch(Protocol):
    """The rows that are being sampled, numbered from 0 without gaps."""

    mixes_lengths: bool
    """Whether rows of any length may be added at any time. If not, all rows are added at once and have equal length."""

    def add(self, prompts: Sequence[Prompt], copies: Sequence[int], max_length: int) -> Tensor:
        """Prefill prompts and add rows after the existing ones.

        Args:
            prompts: all different, the longest first; none is longer than the longest prompt of the existing rows.
            copies: how many rows each prompt gets.
            max_length: most tokens that a row of the longest prompt may reach, prompt included. It sets how much
                memory is reserved.

        Returns:
            Hidden states [P, H] at the last token of each prompt.
        """

    def step(self, tokens: Tensor) -> Tensor:
        """Append to every row its next token [R]. Returns the hidden states [R, H] that predict the token after."""

    def remove(self, rows: Sequence[int]) -> list[int]:
        """Remove rows. Returns, for each remaining row in its new order, the number that it had."""


def compact(count: int, removed: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Fill the gaps that removed places leave with the last places. This copies as little as possible.

    Args:
        count: how many places there are.
        removed: places that become free.

    Returns:
        For each remaining place, its former place; the places that move; and the new place of each of these.
    """
    remaining = count - len(removed)
    gaps = [place for place in removed if place < remaining]
    movers = sorted(set(range(remaining, count)).difference(removed))
    order = list(range(remaining))
    for gap, mover in zip(gaps, movers, strict=True):
        order[gap] = mover
    return order, movers, gaps
