"""Keys and values of rows that come and go while tokens are sampled, in the form that every transformers model knows.

All rows take the same new column at every step: a row's tokens end at the newest column, whatever its length. That is
padding on the left, which every transformers model knows. A row joins by having its prompt written before the newest
column; one that leaves gives its place to the last one. In between, nothing grows and nothing is copied.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

from holdfast.sampling.kv_rows import closed_up
from holdfast.sampling.prefill import Forward, Prompt, PromptReader, Read


class EqualRows:
    """Rows of equal length in the library's own cache, for models with other kinds of state: nothing is ever padded."""

    mixed = False

    def __init__(self, config: PretrainedConfig, forward: Forward, device: torch.device) -> None:
        self._config, self._forward, self._device = config, forward, device
        self._rows = self._length = 0

    def join(self, prompts: Sequence[Prompt], copies: Sequence[int], room: int) -> Tensor:
        self._cache = DynamicCache(config=self._config)
        ids = torch.tensor(prompts, device=self._device)
        self._rows, self._length = sum(copies), ids.shape[1]
        positions = torch.arange(self._length, device=self._device).expand(len(prompts), -1)
        hidden = self._forward(ids, None, positions, self._cache)
        if self._rows > len(prompts):
            self._select([i for i, count in enumerate(copies) for _ in range(count)])
        return hidden[:, -1]

    def step(self, tokens: Tensor) -> Tensor:
        positions = tokens.new_full((self._rows, 1), self._length)
        self._length += 1
        return self._forward(tokens[:, None], None, positions, self._cache)[:, -1]

    def leave(self, ended: Sequence[int]) -> list[int]:
        order = sorted(set(range(self._rows)).difference(ended))
        if order:
            self._select(order)
        self._rows = len(order)
        return order

    def _select(self, rows: list[int]) -> None:
        self._cache.reorder_cache(torch.tensor(rows, device=self._device))


class RereadRows:
    """Rows of equal length that are read anew at every step: right for every decoder, and slow."""

    mixed = False

    def __init__(self, forward: Forward, device: torch.device) -> None:
        self._forward, self._device = forward, device

    def join(self, prompts: Sequence[Prompt], copies: Sequence[int], room: int) -> Tensor:
        ids = torch.tensor(prompts, device=self._device)
        self._ids = ids.repeat_interleave(torch.tensor(copies, device=self._device), dim=0)
        return self._read(ids)

    def step(self, tokens: Tensor) -> Tensor:
        self._ids = torch.cat([self._ids, tokens[:, None]], dim=1)
        return self._read(self._ids)

    def leave(self, ended: Sequence[int]) -> list[int]:
        order = sorted(set(range(len(self._ids))).difference(ended))
        self._ids = self._ids[order]
        return order

    def _read(self, ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=self._device).expand(len(ids), -1)
        return self._forward(ids, None, positions, None)[:, -1]


class MixedRows:
    """Rows of any length in preallocated places, for layers of full or sliding-window attention.

    Args:
        windows: of each layer, how many tokens a token sees, itself included; None for all.
    """

    mixed = True

    def __init__(self, windows: Sequence[int | None], forward: Forward, reader: PromptReader) -> None:
        self._forward, self._reader, self._device = forward, reader, reader.device
        self._layers = [_Columns(window) for window in windows]
        self._cache = Cache(layers=self._layers)
        self._starts: list[int] = []
        """The column of each row's first token."""
        self._end = 0
        """The next token's column."""
        self._room = 0

    def join(self, prompts: Sequence[Prompt], copies: Sequence[int], room: int) -> Tensor:
        places = len(self._starts) + sum(copies)
        if not self._starts:
            self._end = len(prompts[0])
            for layer in self._layers:
                layer.restart(self._end)
        self._room = room
        hidden = []
        for read in self._reader.read(prompts):
            count = len(read.prompts)
            self._write(read, copies[:count], places)
            hidden.append(read.hidden)
            copies = copies[count:]
        self._arrange()
        return torch.cat(hidden)

    def _write(self, read: Read, copies: Sequence[int], places: int) -> None:
        """Write what was read of some prompts to their rows."""
        prompts = read.prompts
        for length, run in groupby(range(len(prompts)), key=lambda i: len(prompts[i])):
            owners = [i for i in run for _ in range(copies[i])]
            for layer, (keys, values) in zip(self._layers, read.layers, strict=True):
                layer.reserve(places, self._room, keys, values)
                layer.write(len(self._starts), keys[owners, :, :length], values[owners, :, :length])
            self._starts += [self._end - length] * len(owners)

    def step(self, tokens: Tensor) -> Tensor:
        self._end += 1
        seen = None if self._mask is None else self._mask[:, : self._end - self._low]
        hidden = self._forward(tokens[:, None], seen, self._positions, self._cache)
        self._positions += 1
        return hidden[:, -1]

    def leave(self, ended: Sequence[int]) -> list[int]:
        order, movers, holes = closed_up(len(self._starts), ended)
        if holes:
            for layer in self._layers:
                layer.move(movers, holes)
        self._starts = [self._starts[row] for row in order]
        self._arrange()
        return order

    def _arrange(self) -> None:
        """What the next steps need, now that the rows have changed."""
        self._low = min(self._starts, default=self._end)
        for layer in self._layers:
            layer.low, layer.rows = self._low, len(self._starts)
        starts = torch.tensor(self._starts, device=self._device)[:, None]
        self._positions = self._end - starts
        self._mask: Tensor | None = None
        if any(start != self._low for start in self._starts):
            self._mask = torch.arange(self._low, self._low + self._room, device=self._device) >= starts


class _Columns(DynamicLayer):
    """One layer's keys and values [rows, heads, columns, D] in one piece of memory, filled column by column.

    When the last column is used up, those that are still seen move to the front.

    Args:
        window: how many tokens a token sees, itself included; None for all.
    """

    def __init__(self, window: int | None) -> None:
        super().__init__()
        self.is_sliding = window is not None
        self._window = window
        self._memory: tuple[Tensor, ...] = ()
        self.rows = 0
        self.restart(0)

    def restart(self, end: int) -> None:
        """There are no rows any more; the next token's column is `end`."""
        self.low, self._end = 0, end
        self._base = self._first()

    def _first(self) -> int:
        """The first column that the next token sees."""
        return self.low if self._window is None else max(self.low, self._end - self._window + 1)

    def reserve(self, rows: int, columns: int, *like: Tensor) -> None:
        """Have memory for so many rows, of so many tokens each; what is seen of those that are there moves along.

        Args:
            like: keys and values [..., heads, ..., D].
        """
        if self._window is not None:
            columns = min(columns, self._window + max(64, self._window // 4))
        if self._memory and self._memory[0].shape[0] >= rows and self._memory[0].shape[2] >= columns:
            return
        # Zeros, because what no row has written yet is masked, and a mask does not keep out what is not a number.
        memory = tuple(x.new_zeros(rows, x.shape[1], columns, x.shape[3]) for x in like)
        first = self._first()
        for new, old in zip(memory, self._memory):
            seen = old[: self.rows, :, first - self._base : self._end - self._base]
            new[: self.rows, :, : seen.shape[2]] = seen
        self._memory, self._base = memory, first

    def write(self, row: int, *read: Tensor) -> None:
        """Write prompts of one length, keys and values [n, heads, P, D], to rows from `row` on."""
        count, _, length, _ = read[0].shape
        start = max(self._base, self._end - length)
        for memory, states in zip(self._memory, read, strict=True):
            columns = slice(start - self._base, self._end - self._base)
            memory[row : row + count, :, columns] = states[:, :, start - self._end + length :]

    def move(self, rows: list[int], to: list[int]) -> None:
        """Copy rows to other places."""
        columns = slice(self._first() - self._base, self._end - self._base)
        for memory in self._memory:
            memory[to, :, columns] = memory[rows, :, columns]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        first = self._first()
        if self._end - self._base == self._memory[0].shape[2]:
            for memory in self._memory:
                seen = memory[: self.rows, :, first - self._base :].clone()
                memory[: self.rows, :, : seen.shape[2]] = seen
            self._base = first
        column = self._end - self._base
        self._end += 1
        columns = slice(first - self._base, column + 1)
        for memory, states in zip(self._memory, (key_states, value_states), strict=True):
            memory[: self.rows, :, column : column + 1] = states
        keys, values = self._memory
        return keys[: self.rows, :, columns], values[: self.rows, :, columns]

    def get_seq_length(self) -> int:
        return self._end - self.low

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        first = self._first()
        return self._end + query_length - first, first - self.low
