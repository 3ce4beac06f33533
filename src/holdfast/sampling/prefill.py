"""Prefill: reads each prompt once and returns the keys and values of every layer as the model computes them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

Prompt = tuple[int, ...]

PREFILL_TOKENS = {"cpu": 1024, "cuda": 16384}
"""Prompt tokens in one forward pass, by type of device. On a CPU so few that their activations stay in its cache."""


class Forward(Protocol):
    """`Policy.hidden_states`."""

    def __call__(
        self, input_ids: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None, cache: Cache | None, /
    ) -> Tensor: ...


class PrefilledPrompts(NamedTuple):
    """Prompts that have been read.

    Args:
        prompts: the longest first.
        hidden: hidden states [P, H] at their last tokens.
        layers: for each layer, keys and values [P, heads, L, D], padded on the right to the longest prompt.
    """

    prompts: Sequence[Prompt]
    hidden: Tensor
    layers: list[tuple[Tensor, ...]]


class PromptPrefill:
    """Reads prompts, for models whose layers are full or sliding-window attention.

    Args:
        forward: `Policy.hidden_states`.
        device: of the model.
        pad_id: fills shorter prompts.
        layers: how many layers the model has.
    """

    def __init__(self, forward: Forward, device: torch.device, pad_id: int, layers: int) -> None:
        self.device = device
        self._forward, self._pad_id, self._layers = forward, pad_id, layers
        self._last: PrefilledPrompts | None = None
        """The prompt that was read last. If only some of its rows fitted into the batch, the next call asks for it
        again, and it need not be read again."""

    def run(self, prompts: Sequence[Prompt]) -> Iterator[PrefilledPrompts]:
        """Read prompts in their order, several at a time. They are all different, the longest first."""
        if self._last is not None and self._last.prompts[0] == prompts[0]:
            yield self._last
            prompts = prompts[1:]
        while prompts:
            count = max(1, PREFILL_TOKENS.get(self.device.type, 4096) // len(prompts[0]))
            prefilled = self._read(prompts[:count])
            if count >= len(prompts):
                length = len(prompts[-1])
                # Cloned, so that this one prompt does not keep the memory of all that were read with it.
                kept = [tuple(x[-1:, :, :length].clone() for x in pair) for pair in prefilled.layers]
                self._last = PrefilledPrompts(prompts[-1:], prefilled.hidden[-1:], kept)
            yield prefilled
            prompts = prompts[count:]

    def _read(self, prompts: Sequence[Prompt]) -> PrefilledPrompts:
        """One forward pass. Padding is on the right, so causal attention never sees it and no mask is needed."""
        lengths = [len(prompt) for prompt in prompts]
        ids = torch.tensor([[*prompt, *[self._pad_id] * (lengths[0] - len(prompt))] for prompt in prompts])
        positions = torch.arange(lengths[0], device=self.device).expand(len(prompts), -1)
        # Full layers, even for a model with a sliding window: a sliding layer keeps only the last columns, which are
        # padding for short prompts.
        cache = Cache(layers=[DynamicLayer() for _ in range(self._layers)])
        hidden = self._forward(ids.to(self.device), None, positions, cache)
        ends = torch.tensor(lengths, device=self.device) - 1
        last = hidden[torch.arange(len(prompts), device=self.device), ends]
        return PrefilledPrompts(prompts, last, [(layer.keys, layer.values) for layer in cache.layers])
