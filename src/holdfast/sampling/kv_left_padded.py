"""A decoding batch of rows of any length, padded on the left, for layers of full or sliding-window attention.

All rows write their next token to the same new column of the cache. So each row ends at the newest column, and a
shorter row begins at a later one. This is padding on the left, which every transformers model supports through the
attention mask and the position ids. A new row's prompt is written just before the newest column. The place of a removed
row is filled by the last row. Between these events nothing is resized and nothing is copied.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from holdfast.sampling.kv_batch import compact
from holdfast.sampling.prefill import Forward, PrefilledPrompts, Prompt, PromptPrefill


class LeftPaddedBatch:
    """Rows of any length in preallocated memory; see the module's docstring.

    Args:
        windows: for each layer, how many tokens a token attends to, itself included; None for all.
        forward: `Policy.hidden_states`.
        prefill: reads prompts.
    """

    mixes_lengths = True

    def __init__(self, windows: Sequence[int | None], forward: Forward, prefill: PromptPrefill) -> None:
        self._forward, self._prefill, self._device = forward, prefill, prefill.device
        self._layers = [PreallocatedLayer(window) for window in windows]
        self._cache = Cache(layers=self._layers)
        self._starts: list[int] = []
        """The column of each row's first token."""
        self._end = 0
        """The column of the next token."""
        self._max_length = 0

    def add(self, prompts: Sequence[Prompt], copies: Sequence[int], max_length: int) -> Tensor:
        rows = len(self._starts) + sum(copies)
        if not self._starts:
            self._end = len(prompts[0])
            for layer in self._layers:
                layer.restart(self._end)
        self._max_length = max_length
        hidden = []
        for prefilled in self._prefill.run(prompts):
            count = len(prefilled.prompts)
            self._write(prefilled, copies[:count], rows)
            hidden.append(prefilled.hidden)
            copies = copies[count:]
        self._update_inputs()
        return torch.cat(hidden)

    def _write(self, prefilled: PrefilledPrompts, copies: Sequence[int], rows: int) -> None:
        """Copy the keys and values of some prompts to their rows; `rows` is how many rows there will be at last."""
        prompts = prefilled.prompts
        # Prompts of one length end and begin at the same columns, so one copy writes all of them.
        for length, run in groupby(range(len(prompts)), key=lambda i: len(prompts[i])):
            owners = [i for i in run for _ in range(copies[i])]
            for layer, (keys, values) in zip(self._layers, prefilled.layers, strict=True):
                layer.reserve(rows, self._max_length, keys, values)
                layer.write(len(self._starts), keys[owners, :, :length], values[owners, :, :length])
            self._starts += [self._end - length] * len(owners)

    def step(self, tokens: Tensor) -> Tensor:
        self._end += 1
        mask = None if self._mask is None else self._mask[:, : self._end - self._first_column]
        hidden = self._forward(tokens[:, None], mask, self._positions, self._cache)
        self._positions += 1
        return hidden[:, -1]

    def remove(self, rows: Sequence[int]) -> list[int]:
        order, movers, gaps = compact(len(self._starts), rows)
        if gaps:
            for layer in self._layers:
                layer.move(movers, gaps)
        self._starts = [self._starts[row] for row in order]
        self._update_inputs()
        return order

    def _update_inputs(self) -> None:
        """Positions and mask for the next steps. They change only when rows are added or removed."""
        self._first_column = min(self._starts, default=self._end)
        for layer in self._layers:
            layer.first_column, layer.rows = self._first_column, len(self._starts)
        starts = torch.tensor(self._starts, device=self._device)[:, None]
        self._positions = self._end - starts
        self._mask: Tensor | None = None  # without padding, a model's kernels are faster if there is no mask
        if any(start != self._first_column for start in self._starts):
            columns = torch.arange(self._first_column, self._first_column + self._max_length, device=self._device)
            self._mask = columns >= starts


class PreallocatedLayer(DynamicLayer):
    """One layer of the cache: keys and values [rows, heads, columns, D] in memory that is filled column by column.

    transformers' `DynamicLayer` concatenates at every step, which copies all keys and values each time. This one writes
    in place. When the last column of the memory is full, the columns that are still attended to move to the front.

    Columns are numbered through the whole batch. Memory column 0 holds column `_offset`.

    Args:
        window: how many tokens a token attends to, itself included; None for all.

    Attributes:
        rows: how many rows there are.
        first_column: the first column in which any row has a token.
    """

    def __init__(self, window: int | None) -> None:
        super().__init__()
        self.is_sliding = window is not None
        self._window = window
        self._memory: tuple[Tensor, ...] = ()
        self.rows = 0
        self.restart(0)

    def restart(self, end: int) -> None:
        """Begin a new batch without rows, in which the next token's column is `end`. The memory is kept for it."""
        self.first_column, self._end = 0, end
        self._offset = self._first_attended()

    def _first_attended(self) -> int:
        """The first column that the next token attends to."""
        return self.first_column if self._window is None else max(self.first_column, self._end - self._window + 1)

    def reserve(self, rows: int, columns: int, *like: Tensor) -> None:
        """Allocate memory for `rows` rows of `columns` tokens. What is attended to is copied along.

        Args:
            rows: how many rows.
            columns: how many tokens a row may have. A sliding layer needs no more than its window.
            like: keys and values [..., heads, ..., D], whose sizes and dtype the memory gets.
        """
        if self._window is not None:
            # Spare columns after the window, so that columns move to the front only once in 64 steps or more.
            columns = min(columns, self._window + max(64, self._window // 4))
        if self._memory and self._memory[0].shape[0] >= rows and self._memory[0].shape[2] >= columns:
            return
        # Zeros, because a mask does not keep out NaN: it would spread from columns that no row has written yet.
        memory = tuple(x.new_zeros(rows, x.shape[1], columns, x.shape[3]) for x in like)
        first = self._first_attended()
        for new, old in zip(memory, self._memory):
            attended = old[: self.rows, :, first - self._offset : self._end - self._offset]
            new[: self.rows, :, : attended.shape[2]] = attended
        self._memory, self._offset = memory, first

    def write(self, row: int, *prefilled: Tensor) -> None:
        """Write prompts of one length to the rows from `row` on, so that they end before the next token's column.

        Args:
            row: the first of the rows.
            prefilled: keys and values [n, heads, P, D].
        """
        count, _, length, _ = prefilled[0].shape
        start = max(self._offset, self._end - length)  # a sliding layer has no memory for what is out of its window
        for memory, states in zip(self._memory, prefilled, strict=True):
            columns = slice(start - self._offset, self._end - self._offset)
            memory[row : row + count, :, columns] = states[:, :, start - self._end + length :]

    def move(self, rows: list[int], to: list[int]) -> None:
        """Copy rows to other places."""
        columns = slice(self._first_attended() - self._offset, self._end - self._offset)
        for memory in self._memory:
            memory[to, :, columns] = memory[rows, :, columns]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append one token's keys and values [R, heads, 1, D]; returns all that it attends to. See `DynamicLayer`."""
        first = self._first_attended()
        if self._end - self._offset == self._memory[0].shape[2]:
            for memory in self._memory:
                attended = memory[: self.rows, :, first - self._offset :].clone()  # the two places may overlap
                memory[: self.rows, :, : attended.shape[2]] = attended
            self._offset = first
        column = self._end - self._offset
        self._end += 1
        columns = slice(first - self._offset, column + 1)
        for memory, states in zip(self._memory, (key_states, value_states), strict=True):
            memory[: self.rows, :, column : column + 1] = states
        keys, values = self._memory
        return keys[: self.rows, :, columns], values[: self.rows, :, columns]

    def get_seq_length(self) -> int:
        return self._end - self.first_column

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        first = self._first_attended()
        return self._end + query_length - first, first - self.first_column
