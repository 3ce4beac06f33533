"""Reading prompts: each once, some at a time, with keys and values of every layer as the model gives them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

Prompt = tuple[int, ...]

READ_AT_ONCE = {"cpu": 1024, "cuda": 16384}
"""Prompt tokens that go through the model together, by device; on a CPU so few that their numbers stay in its cache."""


class Forward(Protocol):
    """`Policy.hidden_states`."""

    def __call__(
        self, input_ids: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None, cache: Cache | None, /
    ) -> Tensor: ...


class Read(NamedTuple):
    """Prompts, the longest first; hidden states [P, H] at their last tokens; keys and values of every layer.

    Keys and values are [P, heads, L, D], padded on the right to the longest.
    """

    prompts: Sequence[Prompt]
    hidden: Tensor
    layers: list[tuple[Tensor, ...]]


class PromptReader:
    """Reads prompts for a model whose layers are full or sliding-window attention, `layers` of them."""

    def __init__(self, forward: Forward, device: torch.device, pad_id: int, layers: int) -> None:
        self.device = device
        self._forward, self._pad_id, self._layers = forward, pad_id, layers
        self._last: Read | None = None
        """The prompt that was read last: where only some of its rows could join, the others come next."""

    def read(self, prompts: Sequence[Prompt]) -> Iterator[Read]:
        """Read prompts that are all different, the longest first, in their order."""
        if self._last is not None and self._last.prompts[0] == prompts[0]:
            yield self._last
            prompts = prompts[1:]
        while prompts:
            count = max(1, READ_AT_ONCE.get(self.device.type, 4096) // len(prompts[0]))
            read = self._read(prompts[:count])
            if count >= len(prompts):
                length = len(prompts[-1])
                kept = [tuple(x[-1:, :, :length].clone() for x in pair) for pair in read.layers]
                self._last = Read(prompts[-1:], read.hidden[-1:], kept)
            yield read
            prompts = prompts[count:]

    def _read(self, prompts: Sequence[Prompt]) -> Read:
        """Padded on the right, which causal attention does not see."""
        lengths = [len(prompt) for prompt in prompts]
        ids = torch.tensor([[*prompt, *[self._pad_id] * (lengths[0] - len(prompt))] for prompt in prompts])
        positions = torch.arange(lengths[0], device=self.device).expand(len(prompts), -1)
        cache = Cache(layers=[DynamicLayer() for _ in range(self._layers)])
        hidden = self._forward(ids.to(self.device), None, positions, cache)
        ends = torch.tensor(lengths, device=self.device) - 1
        last = hidden[torch.arange(len(prompts), device=self.device), ends]
        return Read(prompts, last, [(layer.keys, layer.values) for layer in cache.layers])
