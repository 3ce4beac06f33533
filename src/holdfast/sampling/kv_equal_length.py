"""Decoding batches for models whose rows cannot be padded: all rows have equal length.

They are for models with other states than keys and values, and for those that ignore an attention mask or a cache.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig

from holdfast.sampling.prefill import Forward, Prompt


class EqualLengthBatch:
    """Rows of equal length in transformers' own `DynamicCache`, which makes the states that the model needs.

    Args:
        config: of the model.
        forward: `Policy.hidden_states`.
        device: of the model.
    """

    mixes_lengths = False

    def __init__(self, config: PretrainedConfig, forward: Forward, device: torch.device) -> None:
        self._config, self._forward, self._device = config, forward, device
        self._rows = self._length = 0

    def add(self, prompts: Sequence[Prompt], copies: Sequence[int], max_length: int) -> Tensor:
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

    def remove(self, rows: Sequence[int]) -> list[int]:
        order = sorted(set(range(self._rows)).difference(rows))
        if order:
            self._select(order)
        self._rows = len(order)
        return order

    def _select(self, rows: list[int]) -> None:
        self._cache.reorder_cache(torch.tensor(rows, device=self._device))


class UncachedBatch:
    """Rows of equal length without a cache: every step reads all tokens again. Correct for every decoder, but slow.

    Args:
        forward: `Policy.hidden_states`.
        device: of the model.
    """

    mixes_lengths = False

    def __init__(self, forward: Forward, device: torch.device) -> None:
        self._forward, self._device = forward, device

    def add(self, prompts: Sequence[Prompt], copies: Sequence[int], max_length: int) -> Tensor:
        ids = torch.tensor(prompts, device=self._device)
        self._ids = ids.repeat_interleave(torch.tensor(copies, device=self._device), dim=0)
        return self._last_states(ids)

    def step(self, tokens: Tensor) -> Tensor:
        self._ids = torch.cat([self._ids, tokens[:, None]], dim=1)
        return self._last_states(self._ids)

    def remove(self, rows: Sequence[int]) -> list[int]:
        order = sorted(set(range(len(self._ids))).difference(rows))
        self._ids = self._ids[order]
        return order

    def _last_states(self, ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=self._device).expand(len(ids), -1)
        return self._forward(ids, None, positions, None)[:, -1]
