"""From logits to tokens: temperature, truncation, one random number per row and position, and the log-probability.

Each position of each row gets one number from a counter-based hash of (row seed, position). The inverse of the
cumulative distribution turns the number into a token. So a token does not depend on which other rows are in the batch.

The vocabulary is summed in blocks. The number first finds its block among the blocks' sums, then its token in the
block. This is faster than a cumulative sum over the whole vocabulary.
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
        temperature: divides the logits; 0 is greedy decoding.
        top_p: keeps the fewest most probable tokens whose probabilities add up to it; 1 keeps all.
        top_k: keeps this many most probable tokens, before `top_p`; 0 keeps all.
        max_new_tokens: a limit for this completion that is lower than the call's; None for the call's.

    Tokens with exactly the probability of the last one that `top_k` or `top_p` keeps are kept too.
    """

    prompt_ids: Sequence[int]
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int | None = None


TOP_P_CANDIDATES = 512
"""Most probable tokens among which `top_p` is searched first. They nearly always suffice; if not, the whole vocabulary
is sorted, which takes much longer."""


class TokenDraws:
    """Draws the next token of every row of a batch.

    The settings are tensors [R]. One is None if it changes nothing for any row, so that its work is skipped.

    Args:
        requests: the request of each row.
        drawn: how many tokens each row has already. Its next random number is that of this position.
        device: of the logits.
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
        self._largest_k = max(0 if g else r.top_k for r, g in zip(requests, greedy))
        self._seeds = torch.tensor([r.seed for r in requests], device=device)
        self._drawn = torch.tensor(drawn, device=device)

    def draw(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The next tokens [R] and their log-probabilities [R].

        A log-probability is that of the distribution from which the token was drawn. For a greedy row it is the model's
        own, at temperature 1.

        Args:
            logits: float32 [R, V]; they may be overwritten.
        """
        best = None if self._greedy is None else _argmax(logits)
        if self._temperature is not None:
            logits.div_(self._temperature[:, None])
        if self._top_p is not None or self._top_k is not None:
            logits.masked_fill_(logits < self._smallest_kept(logits)[:, None], -torch.inf)
        weights = logits.softmax(dim=-1)
        sums = block_sums(weights)
        if best is not None and self._all_greedy:
            tokens = best
        else:
            tokens = inverse_cdf(weights, sums, uniforms(self._seeds, self._drawn))
        if self._greedy is not None and best is not None:
            tokens = torch.where(self._greedy, best, tokens)
        self._drawn += 1
        return tokens, (weights.gather(1, tokens[:, None]).squeeze(1).double() / sums.sum(dim=-1)).log()

    def _smallest_kept(self, logits: Tensor) -> Tensor:
        """For each row of logits [R, V] the smallest logit that it keeps [R]; −inf if it keeps all."""
        size = logits.shape[-1]
        count = min(size, self._largest_k if self._top_p is None else max(self._largest_k, TOP_P_CANDIDATES))
        values = logits.topk(count).values
        kept, truncated = self._kept_counts(logits, values)
        if self._top_p is not None and count < size and bool((kept > count).any()):
            values = logits.sort(dim=-1, descending=True).values
            kept, _ = self._kept_counts(logits, values)
        smallest = values.gather(1, kept.clamp(max=values.shape[-1])[:, None] - 1).squeeze(1)
        return smallest.masked_fill(~truncated, -torch.inf)

    def _kept_counts(self, logits: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """How many tokens each row keeps [R], and whether the row is truncated at all [R].

        The count is more than K if the K largest do not add up to the row's `top_p`. It is 1 for a row that is not
        truncated, whose count is not used.

        Args:
            logits: [R, V].
            values: the K largest logits of each row in descending order [R, K].
        """
        kept = torch.full_like(self._seeds, logits.shape[-1])
        truncated = torch.zeros_like(self._seeds, dtype=torch.bool)
        if self._top_k is not None:
            truncated = self._top_k > 0
            kept = torch.where(truncated, self._top_k.clamp(max=logits.shape[-1]), kept)
        if self._top_p is not None:
            total = logits.logsumexp(dim=-1)
            if self._top_k is not None:
                # top_p refers to the probabilities after top_k, so the total is over the k tokens alone.
                among = values.masked_fill(
                    torch.arange(values.shape[-1], device=kept.device) >= kept[:, None], -torch.inf
                )
                total = torch.where(truncated, among.logsumexp(dim=-1), total)
            below = (values - total[:, None]).exp().cumsum(dim=-1) < self._top_p[:, None]
            kept = torch.where(self._top_p < 1, torch.minimum(kept, below.sum(dim=-1) + 1), kept)
            truncated = truncated | (self._top_p < 1)
        return torch.where(truncated, kept, 1), truncated


def uniforms(seeds: Tensor, positions: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) [R], from row seeds and positions, int64 [R].

    They are the top 52 bits of splitmix64 (Steele et al. 2014). A hash needs no state, so a row's numbers do not depend
    on when it joined the batch, and they are the same on every device.
    """
    mixed = seeds + (positions + 1) * _signed(0x9E3779B97F4A7C15)
    mixed = (mixed ^ _shifted(mixed, 30)) * _signed(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ _shifted(mixed, 27)) * _signed(0x94D049BB133111EB)
    mixed = mixed ^ _shifted(mixed, 31)
    return _shifted(mixed, 12).double() * 2.0**-52


def _signed(value: int) -> int:
    """The low 64 bits of a number, read as a signed one. Sums and products of int64 wrap as unsigned ones do."""
    return (value + 2**63) % 2**64 - 2**63


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros. The shift of int64 would fill with the sign."""
    return (values >> bits) & (2 ** (64 - bits) - 1)


def block_sums(weights: Tensor) -> Tensor:
    """Sums [R, B], in float64, of the blocks of rows [R, V]."""
    return torch.cat([part.sum(dim=-1) for part in _blocks(weights)], dim=-1).double()


def inverse_cdf(weights: Tensor, sums: Tensor, numbers: Tensor) -> Tensor:
    """The tokens [R] at which numbers in [0, 1) fall in the rows' cumulative distributions; never one of weight 0.

    The boundaries between tokens have the rounding error of the float32 probabilities.

    Args:
        weights: proportional to the probabilities [R, V].
        sums: their `block_sums`.
        numbers: [R].
    """
    size = weights.shape[-1]
    width = _block_width(size)
    ends = sums.cumsum(dim=-1)
    target = _just_below(numbers[:, None] * ends[:, -1:], ends[:, -1:])
    # NaN is larger than every sum, so the search returns an index after the last block.
    block = torch.searchsorted(ends, target, right=True).clamp_(max=ends.shape[-1] - 1)
    inside = (target - (ends - sums).gather(1, block)).clamp_(min=0.0)
    places = block * width + torch.arange(width, device=block.device)
    places = places.clamp_(max=size - 1)  # if the last block is shorter, the last entry is repeated
    ends = weights.gather(1, places).double().cumsum(dim=-1)
    place = torch.searchsorted(ends, _just_below(inside, ends[:, -1:]), right=True)
    return (block * width + place).squeeze(1).clamp_(max=size - 1)


def _just_below(values: Tensor, limit: Tensor) -> Tensor:
    """Values clipped to just below a limit, so that a search for the first sum above them ends at a positive weight."""
    return torch.minimum(values, torch.nextafter(limit, torch.zeros_like(limit)))


def _argmax(logits: Tensor) -> Tensor:
    """The first largest entry of each row [R], found by blocks. This is several times faster than over whole rows."""
    width = _block_width(logits.shape[-1])
    block = torch.cat([part.amax(dim=-1) for part in _blocks(logits)], dim=-1).argmax(dim=-1, keepdim=True)
    places = (block * width + torch.arange(width, device=block.device)).clamp_(max=logits.shape[-1] - 1)
    return places.gather(1, logits.gather(1, places).argmax(dim=-1, keepdim=True)).squeeze(1)


def _block_width(size: int) -> int:
    """Entries of a block: near the square root, so that there are about as many blocks as entries in each."""
    return 16 * max(1, round(math.sqrt(size) / 16))


def _blocks(rows: Tensor) -> list[Tensor]:
    """Rows [R, V] as blocks [R, V // W, W] and, if W does not divide V, the rest [R, 1, V % W]."""
    size, width = rows.shape[-1], _block_width(rows.shape[-1])
    whole = size // width * width
    parts = [rows[:, :whole].unflatten(1, (-1, width))] if whole else []
    return parts + ([rows[:, None, whole:]] if whole < size else [])
