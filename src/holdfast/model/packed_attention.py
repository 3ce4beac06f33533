"""Attention over a stream of sequences that share prompts, registered with transformers under its own name.

A decoder that is called with `packed_layout=` passes it on to every layer's attention. A call without it is the
library's ordinary scaled dot-product attention, with masks and caches.

Two forms compute the same. On a CPU each part is one call, without padding or masks: first every segment causally, then
all branches of a prompt against the prompt's keys. The two results are merged by their log-sum-exp (as in Hydragen,
arXiv 2402.05099). On other devices, segments of similar length are gathered into a few padded calls, because many small
calls would leave a GPU idle.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from holdfast.errors import RunError
from holdfast.model.packing import Layout
from holdfast.objective.private_torch import (
    cpu_flash_attention,
    cpu_flash_attention_backward,
    has_cpu_flash_attention,
)

NAME = "sdpa_shared_prefix"
"""The `attn_implementation`. It contains "sdpa", because transformers checks by that whether a model supports it."""

HARMLESS = {"position_ids", "cache_position", "use_cache", "num_items_in_batch"}
"""Keyword arguments that layers pass to their attention and that do not change its result."""

WASTE = 1.25
"""Largest ratio of padded to real work in one gathered call. A lower one means more calls."""


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    packed_layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls: queries [B, H, L, D], keys and values [B, H_kv, L, D] to [B, L, H, D].

    Raises:
        RunError: there is a layout, and an argument that packed attention does not support.
    """
    if packed_layout is None:
        return sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            sliding_window=sliding_window,
            is_causal=is_causal,
            **kwargs,
        )
    unknown = {name for name, given in kwargs.items() if given is not None and given is not False} - HARMLESS
    if dropout:
        unknown.add("dropout")
    if is_causal is False or not getattr(module, "is_causal", True):
        unknown.add("bidirectional layers")
    if attention_mask is not None and attention_mask.numel() > 1:
        unknown.add("an attention mask")
    if query.shape[0] != 1 or query.shape[2] != packed_layout.tokens or key.shape[2] != packed_layout.tokens:
        unknown.add("a cache or another number of tokens")
    if isinstance(sliding_window, int):
        narrowest = packed_layout.narrowest_window
        packed_layout.narrowest_window = sliding_window if narrowest is None else min(narrowest, sliding_window)
        if packed_layout.longest > sliding_window:
            unknown.add(f"a window of {sliding_window}")
    if unknown:
        what = f"{type(module).__name__} needs {', '.join(sorted(unknown))}, which packed rows do not support"
        raise RunError(what, fix="set model.attn_implementation: eager")
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
    if query.device.type == "cpu" and query.shape[-1] == value.shape[-1] and has_cpu_flash_attention():
        return part_by_part(query, key, value, packed_layout, scale)[None], None
    return gathered(query, key, value, packed_layout, scale)[None], None


def no_mask(device: torch.device) -> Tensor:
    """The attention mask to pass to a decoder together with a layout, which replaces it.

    transformers does not change masks of four dimensions, so it does not build one of [T, T].
    """
    return torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=device)


def part_by_part(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float) -> Tensor:
    """Queries [T, H, D], keys and values [T, H_kv, D] to outputs [T, H, D], on a CPU."""
    return _PartByPart.apply(query, key, value, layout, scale)


class _PartByPart(torch.autograd.Function):
    """Attention part by part, by the CPU's flash kernel.

    The kernel's backward recomputes probabilities as exp(score − log-sum-exp). Of the other keys it needs only their
    effect on the output. So with the merged output and log-sum-exp, each part's gradients are those of the whole.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float) -> Tensor:
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        out = torch.empty_like(query)
        lse = torch.empty(query.shape[:2], dtype=torch.promote_types(query.dtype, torch.float32))
        for run in layout.runs:
            where = (run.start, run.count, run.length)
            own, own_lse = cpu_flash_attention(
                *(_rows(x, *where) for x in (query, key, value)), causal=True, scale=scale
            )
            _rows(out, *where).copy_(own)
            _rows(lse[..., None], *where).copy_(own_lse[..., None])
        for fork in layout.forks:
            branches = slice(fork.start, fork.start + fork.length)
            seen = (_rows(x, fork.prompt_start, 1, fork.prompt_length) for x in (key, value))
            branch = _rows(query, fork.start, 1, fork.length)
            other, other_lse = cpu_flash_attention(branch, *seen, causal=False, scale=scale)
            other, other_lse = other[0].transpose(0, 1), other_lse[0].transpose(0, 1)
            # The prompt's share of the softmax is e^a / (e^a + e^b) with a, b the two log-sum-exps.
            share = torch.sigmoid(other_lse - lse[branches])[..., None]
            out[branches] = out[branches].to(share.dtype).lerp(other.to(share.dtype), share)
            lse[branches] = torch.logaddexp(lse[branches], other_lse)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.layout, ctx.scale = layout, scale  # type: ignore[attr-defined]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        grad, lse = grad.contiguous(), lse[..., None]
        grads = [torch.empty_like(x) for x in (query, key, value)]
        for run in ctx.layout.runs:
            where = (run.start, run.count, run.length)
            parts = [_rows(x, *where) for x in (grad, query, key, value, out)]
            lse_part = _rows(lse, *where)[..., 0]
            own = cpu_flash_attention_backward(*parts, log_sum_exp=lse_part, causal=True, scale=ctx.scale)
            for whole, part in zip(grads, own, strict=True):
                _rows(whole, *where).copy_(part)
        for fork in ctx.layout.forks:
            branch, prompt = (fork.start, 1, fork.length), (fork.prompt_start, 1, fork.prompt_length)
            tensors = ((grad, branch), (query, branch), (key, prompt), (value, prompt), (out, branch))
            parts = [_rows(x, *where) for x, where in tensors]
            lse_part = _rows(lse, *branch)[..., 0]
            other = cpu_flash_attention_backward(*parts, log_sum_exp=lse_part, causal=False, scale=ctx.scale)
            for whole, part, where in zip(grads, other, (branch, prompt, prompt), strict=True):
                _rows(whole, *where).add_(part)
        return *grads, None, None


def _rows(stream: Tensor, start: int, count: int, length: int) -> Tensor:
    """A view [count, H, length, D] of part of a stream [T, H, D]."""
    part = stream[start : start + count * length]
    return part.view(count, length, *stream.shape[1:]).transpose(1, 2)


@dataclass(frozen=True, slots=True)
class _Call:
    """One padded call.

    Args:
        queries: [B, C], indices in the stream.
        keys: [B, K], indices in the stream.
        mask: [B or 1, 1, C, K], True if a query sees a key. None for sequences without a separate prompt: these are
            causal and padded on the right, where no real token sees the padding.
    """

    queries: Tensor
    keys: Tensor
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class _Plan:
    calls: list[_Call]
    slots: Tensor
    """[T], each token's index in the concatenated outputs of the calls."""


def gathered(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float) -> Tensor:
    """Queries [T, H, D], keys and values [T, H_kv, D] to outputs [T, H, D], in a few padded calls."""
    plan = layout.plans.get(query.device)
    if not isinstance(plan, _Plan):
        plan = layout.plans[query.device] = _plan(layout, query.device)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # kernels with a mask need as many key heads as query heads
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    outputs = [
        F.scaled_dot_product_attention(
            query[call.queries].transpose(1, 2),
            key[call.keys].transpose(1, 2),
            value[call.keys].transpose(1, 2),
            attn_mask=call.mask,
            is_causal=call.mask is None,
            scale=scale,
        )
        .transpose(1, 2)
        .flatten(0, 1)
        for call in plan.calls
    ]
    return torch.cat(outputs)[plan.slots]


def _plan(layout: Layout, device: torch.device) -> _Plan:
    calls: list[_Call] = []
    slots = torch.empty(layout.tokens, dtype=torch.long)
    filled = 0
    for batch in _similar(layout):
        starts, lengths, prompt_starts, prompt_lengths = torch.tensor(batch)[..., None].unbind(1)
        steps, seen = torch.arange(int(lengths.max())), torch.arange(int(prompt_lengths.max()))
        real = steps < lengths
        queries = starts + steps.minimum(lengths - 1)  # padding repeats the last token; its output is not used
        slots[queries[real]] = filled + real.flatten().nonzero()[:, 0]
        filled += real.numel()
        keys, mask = queries, None
        if len(seen):
            keys = torch.cat([prompt_starts + seen.minimum(prompt_lengths - 1), queries], dim=1)
            of_prompt = (seen < prompt_lengths)[:, None].expand(-1, len(steps), -1)
            of_itself = (steps[:, None] >= steps).expand(len(batch), -1, -1)
            mask = torch.cat([of_prompt, of_itself], dim=2)[:, None]
            if len(set(prompt_lengths.flatten().tolist())) == 1:
                mask = mask[:1]
        calls.append(_Call(queries.to(device), keys.to(device), None if mask is None else mask.to(device)))
    return _Plan(calls, slots.to(device))


def _similar(layout: Layout) -> Iterator[list[tuple[int, int, int, int]]]:
    """Segments as (start, length, prompt's start, prompt's length), in batches with little padding."""
    segments: list[tuple[int, int, int, int]] = []
    for run in layout.runs:
        for start in range(run.start, run.start + run.count * run.length, run.length):
            fork = next((f for f in layout.forks if f.start <= start < f.start + f.length), None)
            segments.append((start, run.length, *((fork.prompt_start, fork.prompt_length) if fork else (0, 0))))
    segments.sort(key=lambda s: (-s[3], -s[1]))
    batch: list[tuple[int, int, int, int]] = []
    real = longest = 0
    for segment in segments:
        _, length, _, prompt = segment
        work = length * (length + prompt)
        width = max(longest, length)
        padded = (len(batch) + 1) * width * (width + (batch[0][3] if batch else prompt))
        if batch and (padded > WASTE * (real + work) or (prompt == 0) != (batch[0][3] == 0)):
            yield batch
            batch, real, longest = [], 0, 0
        batch.append(segment)
        real, longest = real + work, max(longest, length)
    yield batch


AttentionInterface.register(NAME, attention)

AttentionMaskInterface.register(NAME, sdpa_mask)
