"""Sampling completions from a policy, in this process, with the log-probability of every token as it was sampled.

A completion depends on its prompt, its seed and its own settings, and on nothing else in the batch: each position of
each row takes one number from a counter-based hash of (row seed, position) and turns it into a token by the inverse
of the cumulative distribution. Batch composition, order and padding change only how floating-point sums round, which
changes a token where the number falls within rounding of a boundary between two tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

from holdfast.errors import RunError
from holdfast.train.policy import Policy


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to be sampled.

    Args:
        prompt_ids: at least one token.
        seed: names the completion's random numbers; 64 bits, signed.
        temperature: divides the logits; 0 takes the most probable token.
        top_p: keeps the fewest most probable tokens whose probabilities reach it; 1 keeps all.
        top_k: keeps so many most probable tokens, before `top_p`; 0 keeps all.
    """

    prompt_ids: Sequence[int]
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """What was sampled.

    Args:
        ids: tokens, with the end-of-sequence token where it was reached.
        logprobs: log-probability of each token in the distribution that it was drawn from, after temperature and
            truncation; for greedy requests, at temperature 1 and untruncated.
        truncated: the limit came before an end-of-sequence token.
    """

    ids: list[int]
    logprobs: list[float]
    truncated: bool


class CompletionEngine(Protocol):
    """What samples completions: `Sampler` in this process, or a server's client."""

    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, batch_tokens: int) -> list[Completion]: ...


class Sampler:
    """Samples from a policy's weights as they are at the moment of the call.

    Prompts that are the same are read once and their keys and values shared out to all their completions. Rows that
    have ended leave the batch whenever they are a quarter of it.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._eos = torch.tensor(sorted(policy.eos_ids), device=policy.device)

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, batch_tokens: int) -> list[Completion]:
        """One completion per request, in the order of the requests.

        Args:
            max_new_tokens: longest completion, its end-of-sequence token included.
            batch_tokens: memory's measure: rows × (longest prompt + max_new_tokens) of one batch stays within it,
                except that a single row always runs.

        Raises:
            RunError: the model's logits are not finite.
        """
        completions: list[Completion | None] = [None] * len(requests)
        for batch in _batches(requests, max_new_tokens, batch_tokens):
            sampled = self._generate_batch([requests[index] for index in batch], max_new_tokens)
            for index, completion in zip(batch, sampled, strict=True):
                completions[index] = completion
        return [completion for completion in completions if completion is not None]

    def _generate_batch(self, requests: Sequence[Request], max_new_tokens: int) -> list[Completion]:
        device = self._eos.device
        cache = _new_cache(self.policy.causal_lm.config)
        logits, mask, positions = self._prefill(requests, cache, max_new_tokens)
        longest = mask.shape[1] - max_new_tokens
        padded = not bool(mask.all())
        draws = _Draws.of(requests, device)
        rows = torch.arange(len(requests), device=device)
        ids = torch.zeros(len(requests), max_new_tokens, dtype=torch.long, device=device)
        logprobs = torch.zeros(len(requests), max_new_tokens, device=device)
        ended = torch.zeros(len(requests), dtype=torch.bool, device=device)
        for step in range(max_new_tokens):
            tokens, token_logprobs = draws.draw(logits, step)
            ids[rows, step] = tokens
            logprobs[rows, step] = token_logprobs
            ended |= torch.isin(tokens, self._eos)
            count = int(ended.sum())
            if count == len(ended) or step + 1 == max_new_tokens:
                break
            if 4 * count >= len(ended):
                keep = (~ended).nonzero().squeeze(1)
                cache.reorder_cache(keep)
                rows, tokens, positions, mask, ended = (x[keep] for x in (rows, tokens, positions, mask, ended))
                draws = draws.select(keep)
            positions = positions + 1
            seen = mask[:, : longest + step + 1] if padded else None
            hidden = self.policy.hidden_states(tokens[:, None], seen, positions, cache)
            logits = self.policy.logits(hidden[:, -1]).float()
        return self._collect(ids, logprobs)

    def _prefill(self, requests: Sequence[Request], cache: Cache, room: int) -> tuple[Tensor, Tensor, Tensor]:
        """Read the distinct prompts, padded on the left, and share them out to the requests' rows.

        Returns:
            Logits of the first new token [R, V]; the attention mask with room for the new ones [R, L + room];
            the position of each prompt's last token [R, 1].
        """
        distinct: dict[tuple[int, ...], int] = {}
        owner = [distinct.setdefault(tuple(request.prompt_ids), len(distinct)) for request in requests]
        longest = max(map(len, distinct))
        ids = torch.tensor([[self.policy.pad_id] * (longest - len(prompt)) + list(prompt) for prompt in distinct])
        start = torch.tensor([longest - len(prompt) for prompt in distinct])[:, None]
        positions = torch.arange(longest) - start
        device = self._eos.device
        ids, positions = ids.to(device), positions.to(device)
        mask = torch.cat([(positions >= 0).long(), positions.new_ones(len(distinct), room)], dim=1)
        padding = None if bool((start == 0).all()) else mask[:, :longest]
        hidden = self.policy.hidden_states(ids, padding, positions.clamp(min=0), cache)
        logits = self.policy.logits(hidden[:, -1]).float()
        expand = torch.tensor(owner, device=device)
        if len(distinct) < len(requests):
            cache.reorder_cache(expand)
        return logits[expand], mask[expand], positions[expand, -1:]

    def _collect(self, ids: Tensor, logprobs: Tensor) -> list[Completion]:
        """Cut each row [max_new_tokens] after its first end-of-sequence token."""
        if not bool(torch.isfinite(logprobs).all()):
            raise RunError("the model's logits are not finite", mend="lower train.learning_rate, or use float32")
        is_end = torch.isin(ids, self._eos)
        has_end = is_end.any(dim=1)
        lengths = torch.where(has_end, is_end.int().argmax(dim=1) + 1, ids.shape[1]).tolist()
        return [
            Completion(row[:length], row_logprobs[:length], not complete)
            for row, row_logprobs, length, complete in zip(
                ids.tolist(), logprobs.tolist(), lengths, has_end.tolist(), strict=True
            )
        ]


def _batches(requests: Sequence[Request], max_new_tokens: int, batch_tokens: int) -> Iterator[list[int]]:
    """Indices of requests for each batch: equal prompts together, lengths alike, the longest first.

    The longest come first so that a budget that is too large for the memory shows at once.
    """
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for index, request in enumerate(requests):
        by_prompt.setdefault(tuple(request.prompt_ids), []).append(index)
    order = [i for prompt in sorted(by_prompt, key=len, reverse=True) for i in by_prompt[prompt]]
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // (len(requests[order[start]].prompt_ids) + max_new_tokens))
        yield order[start : start + rows]
        start += rows


@dataclass(frozen=True, slots=True)
class _Draws:
    """The sampling settings of a batch's rows, each [R]; None where they change nothing for any row."""

    seeds: Tensor
    greedy: Tensor | None
    temperature: Tensor | None
    top_p: Tensor | None
    top_k: Tensor | None
    all_greedy: bool

    @classmethod
    def of(cls, requests: Sequence[Request], device: torch.device) -> Self:
        def column(values: list[Any], neutral: Any, dtype: torch.dtype) -> Tensor | None:
            return None if all(v == neutral for v in values) else torch.tensor(values, dtype=dtype, device=device)

        is_greedy = [r.temperature == 0 for r in requests]
        drawn = [None if greedy else r for r, greedy in zip(requests, is_greedy)]
        return cls(
            seeds=torch.tensor([r.seed for r in requests], device=device),
            greedy=column(is_greedy, False, torch.bool),
            temperature=column([r.temperature if r else 1.0 for r in drawn], 1.0, torch.float32),
            top_p=column([r.top_p if r else 1.0 for r in drawn], 1.0, torch.float32),
            top_k=column([r.top_k if r else 0 for r in drawn], 0, torch.long),
            all_greedy=all(is_greedy),
        )

    def select(self, keep: Tensor) -> Self:
        """The settings of some of the rows."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        kept: dict[str, Any] = {k: v[keep] if isinstance(v, Tensor) else v for k, v in columns.items()}
        return type(self)(**kept)

    def draw(self, logits: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """Tokens [R] and their log-probabilities [R] from float32 logits [R, V]."""
        processed = logits if self.temperature is None else logits / self.temperature[:, None]
        if self.top_p is not None or self.top_k is not None:
            processed = self._truncate(processed)
        logprobs = processed.log_softmax(dim=-1)
        if self.all_greedy:
            tokens = logits.argmax(dim=-1)
        else:
            cumulative = logprobs.exp().cumsum(dim=-1, dtype=torch.float64)
            # The number is at most 1 − 2⁻⁵², so the product stays below the total and the search ends inside.
            target = uniforms(self.seeds, position) * cumulative[:, -1]
            tokens = torch.searchsorted(cumulative, target[:, None], right=True).squeeze(1)
            tokens = tokens.clamp_(max=logits.shape[-1] - 1)
            if self.greedy is not None:
                tokens = torch.where(self.greedy, logits.argmax(dim=-1), tokens)
        return tokens, logprobs.gather(1, tokens[:, None]).squeeze(1)

    def _truncate(self, logits: Tensor) -> Tensor:
        """Logits with −inf for all tokens that top-k, then top-p, leave out; the most probable always stays."""
        values, order = logits.sort(dim=-1, descending=True, stable=True)
        if self.top_k is not None:
            rank = torch.arange(logits.shape[-1], device=logits.device)
            outside = (rank >= self.top_k[:, None]) & (self.top_k[:, None] > 0)
            values = values.masked_fill(outside, -torch.inf)
        if self.top_p is not None:
            probabilities = values.softmax(dim=-1)
            above = probabilities.cumsum(dim=-1) - probabilities
            outside = (above >= self.top_p[:, None]) & (self.top_p[:, None] < 1)
            outside[:, 0] = False
            values = values.masked_fill(outside, -torch.inf)
        return torch.empty_like(values).scatter_(1, order, values)


def uniforms(seeds: Tensor, position: int) -> Tensor:
    """Numbers in [0, 1) by row seed [R] int64 and position: the top 52 bits of splitmix64 (Steele et al. 2014)."""
    mixed = seeds + _signed(0x9E3779B97F4A7C15 * (position + 1))
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


class _RoomyLayer(DynamicLayer):
    """A cache layer with room ahead, so that a new token does not copy all the earlier ones."""

    ROOM = 64
    """Tokens of room that are added whenever it is used up."""

    keys: Tensor
    values: Tensor
    _buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._buffers is None or self._buffers[0].shape[-2] < end:
            self._buffers = (
                self._grown(self.keys, key_states, start, end),
                self._grown(self.values, value_states, start, end),
            )
        keys, values = self._buffers
        keys[:, :, start:end], values[:, :, start:end] = key_states, value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        super().reorder_cache(beam_idx)
        self._buffers = None

    def _grown(self, held: Tensor, new: Tensor, start: int, end: int) -> Tensor:
        batch, heads, _, width = new.shape
        buffer = new.new_empty(batch, heads, end + self.ROOM, width)
        if start:
            buffer[:, :, :start] = held
        return buffer


def _new_cache(config: PretrainedConfig) -> DynamicCache:
    """An empty cache for a model, whose ordinary layers are roomy ones."""
    cache = DynamicCache(config=config)
    cache.layers = [_RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
