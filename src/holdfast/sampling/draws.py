"""From logits to tokens: temperature, truncation, one number per row and position, and its log-probability.

Every position of every row takes one number from a counter-based hash of (row seed, position) and turns it into a
token by the inverse of the cumulative distribution. The vocabulary is summed in blocks: the number finds its block
among the blocks' sums and its token inside that block.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to be sampled.

    Args:
        prompt_ids: at least one token.
        seed: names the completion's random numbers; 64 bits, signed.
        temperature: divides the logits; 0 takes the most probable token.
        top_p: keeps the fewest most probable tokens whose probabilities reach it; 1 keeps all.
        top_k: keeps so many most probable tokens, before `top_p`; 0 keeps all.
        max_new_tokens: where it is less than that of the others that are sampled together; None for theirs.

    Tokens exactly as probable as the last one that `top_k` or `top_p` keeps are kept too.
    """

    prompt_ids: Sequence[int]
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int | None = None


NUCLEUS = 512
"""Most probable tokens among which a `top_p` is looked for before the whole vocabulary is sorted."""


class Draws:
    """The sampling settings of rows, each [R]; None where they change nothing for any row.

    Args:
        drawn: how many tokens each row has; `draw` counts on from there.
    """

    def __init__(self, requests: Sequence[Request], drawn: Sequence[int], device: torch.device) -> None:
        def column(values: list[float], neutral: float, dtype: torch.dtype) -> Tensor | None:
            return None if all(v == neutral for v in values) else torch.tensor(values, dtype=dtype, device=device)

        greedy = [r.temperature == 0 for r in requests]
        self._all_greedy = all(greedy)
        self._greedy = column([float(g) for g in greedy], 0.0, torch.bool)
        self._temperature = column([r.temperature or 1.0 for r in requests], 1.0, torch.float32)
        self._top_p = column([1.0 if g else r.top_p for r, g in zip(requests, greedy)], 1.0, torch.float32)
        self._top_k = column([0 if g else r.top_k for r, g in zip(requests, greedy)], 0, torch.long)
        self._most_k = max(0 if g else r.top_k for r, g in zip(requests, greedy))
        self._seeds = torch.tensor([r.seed for r in requests], device=device)
        self._drawn = torch.tensor(drawn, device=device)

    def draw(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The next tokens [R] and their log-probabilities [R] from float32 logits [R, V], which may be overwritten.

        A log-probability is that of the distribution the token was drawn from; for greedy rows, of the model's own.
        """
        best = None if self._greedy is None else _argmax(logits)
        if self._temperature is not None:
            logits.div_(self._temperature[:, None])
        if self._top_p is not None or self._top_k is not None:
            logits.masked_fill_(logits < self._least(logits)[:, None], -torch.inf)
        weights = logits.softmax(dim=-1)
        sums = block_sums(weights)
        if best is not None and self._all_greedy:
            tokens = best
        else:
            tokens = inverse(weights, sums, uniforms(self._seeds, self._drawn))
        if self._greedy is not None and best is not None:
            tokens = torch.where(self._greedy, best, tokens)
        self._drawn += 1
        return tokens, (weights.gather(1, tokens[:, None]).squeeze(1).double() / sums.sum(dim=-1)).log()

    def _least(self, logits: Tensor) -> Tensor:
        """The smallest of its logits [R, V] that each row keeps [R]."""
        size = logits.shape[-1]
        count = min(size, self._most_k if self._top_p is None else max(self._most_k, NUCLEUS))
        values = logits.topk(count).values
        kept, truncated = self._kept(logits, values)
        if self._top_p is not None and count < size and bool((kept > count).any()):
            values = logits.sort(dim=-1, descending=True).values
            kept, _ = self._kept(logits, values)
        least = values.gather(1, kept.clamp(max=values.shape[-1])[:, None] - 1).squeeze(1)
        return least.masked_fill(~truncated, -torch.inf)

    def _kept(self, logits: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """How many tokens each row keeps [R], and whether it is truncated at all [R]; 1 where it is not.

        More than K where the K largest do not reach the row's `top_p`.

        Args:
            logits: [R, V].
            values: the K largest of each row in falling order [R, K].
        """
        kept = torch.full_like(self._seeds, logits.shape[-1])
        truncated = torch.zeros_like(self._seeds, dtype=torch.bool)
        if self._top_k is not None:
            truncated = self._top_k > 0
            kept = torch.where(truncated, self._top_k.clamp(max=logits.shape[-1]), kept)
        if self._top_p is not None:
            total = logits.logsumexp(dim=-1)
            if self._top_k is not None:
                among = values.masked_fill(
                    torch.arange(values.shape[-1], device=kept.device) >= kept[:, None], -torch.inf
                )
                total = torch.where(truncated, among.logsumexp(dim=-1), total)
            below = (values - total[:, None]).exp().cumsum(dim=-1) < self._top_p[:, None]
            kept = torch.where(self._top_p < 1, torch.minimum(kept, below.sum(dim=-1) + 1), kept)
            truncated = truncated | (self._top_p < 1)
        return torch.where(truncated, kept, 1), truncated


def uniforms(seeds: Tensor, positions: Tensor) -> Tensor:
    """Numbers in [0, 1) by row seed and position, int64 [R]: the top 52 bits of splitmix64 (Steele et al. 2014)."""
    mixed = seeds + (positions + 1) * _signed(0x9E3779B97F4A7C15)
    mixed = (mixed ^ _shifted(mixed, 30)) * _signed(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ _shifted(mixed, 27)) * _signed(0x94D049BB133111EB)
    mixed = mixed ^ _shifted(mixed, 31)
    return _shifted(mixed, 12).double() * 2.0**-52


def _signed(value: int) -> int:
    """The low 64 bits of a number, read as a signed one: int64 sums and products wrap like unsigned ones."""
    return (value + 2**63) % 2**64 - 2**63


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros, which int64's own shift does not."""
    return (values >> bits) & (2 ** (64 - bits) - 1)


def block_sums(weights: Tensor) -> Tensor:
    """Sums [R, B], in float64, of the blocks of rows [R, V]."""
    return torch.cat([part.sum(dim=-1) for part in _blocks(weights)], dim=-1).double()


def inverse(weights: Tensor, sums: Tensor, numbers: Tensor) -> Tensor:
    """Where numbers in [0, 1) [R] fall in the cumulative distributions of weights [R, V]; never on a zero.

    The boundaries between tokens are off by float32's rounding of their probabilities, as those themselves are.

    Args:
        weights: in proportion to the probabilities.
        sums: their `block_sums`.
    """
    size = weights.shape[-1]
    width = _block(size)
    ends = sums.cumsum(dim=-1)
    target = _below(numbers[:, None] * ends[:, -1:], ends[:, -1:])
    block = torch.searchsorted(ends, target, right=True).clamp_(max=ends.shape[-1] - 1)  # NaN is found nowhere
    inside = (target - (ends - sums).gather(1, block)).clamp_(min=0.0)
    places = block * width + torch.arange(width, device=block.device)
    places = places.clamp_(max=size - 1)  # the last entry again and again where the last block is shorter
    ends = weights.gather(1, places).double().cumsum(dim=-1)
    place = torch.searchsorted(ends, _below(inside, ends[:, -1:]), right=True)
    return (block * width + place).squeeze(1).clamp_(max=size - 1)


def _below(values: Tensor, limit: Tensor) -> Tensor:
    """Values brought just under a limit, so that a search for the first sum above them ends on an entry that adds."""
    return torch.minimum(values, torch.nextafter(limit, torch.zeros_like(limit)))


def _argmax(logits: Tensor) -> Tensor:
    """The first largest of each row [R], found by blocks, which is several times faster than over whole rows."""
    width = _block(logits.shape[-1])
    block = torch.cat([part.amax(dim=-1) for part in _blocks(logits)], dim=-1).argmax(dim=-1, keepdim=True)
    places = (block * width + torch.arange(width, device=block.device)).clamp_(max=logits.shape[-1] - 1)
    return places.gather(1, logits.gather(1, places).argmax(dim=-1, keepdim=True)).squeeze(1)


def _block(size: int) -> int:
    """Entries of a block: near the square root, so that blocks are as many as their entries."""
    return 16 * max(1, round(math.sqrt(size) / 16))


def _blocks(rows: Tensor) -> list[Tensor]:
    """Rows [R, V] as blocks [R, V // W, W] and, where W does not divide V, the rest [R, 1, V % W]."""
    size, width = rows.shape[-1], _block(rows.shape[-1])
    whole = size // width * width
    parts = [rows[:, :whole].unflatten(1, (-1, width))] if whole else []
    return parts + ([rows[:, None, whole:]] if whole < size else [])
