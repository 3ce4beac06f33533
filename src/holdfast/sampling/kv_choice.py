"""Which keeping of rows suits a model: the first that computes it right, by what its layers are and by a check.

A decoder takes keywords that it does not know without a word, a cache of another kind than its own among them, and
then reads every token as if nothing stood before it. So the choice is checked on first use: states that are computed
token by token, in rows of different length where these may be mixed, must be those of whole passes over each row alone.
"""

import warnings
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from holdfast.model.policy import Policy, attends_everywhere
from holdfast.sampling.kv_cache import EqualRows, MixedRows, RereadRows
from holdfast.sampling.kv_rows import CacheRows
from holdfast.sampling.kv_shared import SharedRows
from holdfast.sampling.llama_decoder import llama_decoder
from holdfast.sampling.prefill import Forward, PromptReader

TOLERANCE, DEVICE_TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-3, 5e-2
"""Largest difference of a state, relative to its norm: in float32 on a CPU, in float32 elsewhere (which may be TF32),
and in dtypes of 16 bits. What is lost may count for little at first, and for more as the weights grow."""

STEPS = 3
"""Tokens after a prompt that are compared. Of a row their median counts: in a mixture of experts rounding may send one
token another way."""

_chosen: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def rows_for(policy: Policy, poll: Callable[[], None]) -> CacheRows:
    """Rows for a policy's model: the first of these that computes it right, which is remembered for the model.

    `SharedRows` for Llama-like decoders, `MixedRows` where each layer is full or sliding-window attention, `EqualRows`
    for others, and `RereadRows`, with a warning, where no cache of the library's serves.

    Args:
        poll: called before every pass of the model.
    """

    def forward(ids: Tensor, mask: Tensor | None, positions: Tensor | None, cache: Cache | None) -> Tensor:
        poll()
        return policy.hidden_states(ids, mask, positions, cache)

    model = policy.causal_lm
    layers = DynamicCache(config=model.config).layers
    in_chunks = getattr(model.config.get_text_config(decoder=True), "attention_chunk_size", None) is not None
    may_mix = attends_everywhere(model) and not in_chunks
    if may_mix and (decoder := llama_decoder(policy)) is not None:
        return SharedRows(decoder, PromptReader(forward, policy.device, policy.pad_id, len(layers)), poll)

    def mixed(forward: Forward) -> CacheRows:
        reader = PromptReader(forward, policy.device, policy.pad_id, len(layers))
        return MixedRows([getattr(layer, "sliding_window", None) for layer in layers], forward, reader)

    kinds: list[Callable[[Forward], CacheRows]] = [mixed] if may_mix else []
    kinds.append(lambda forward: EqualRows(model.config, forward, policy.device))
    kinds.append(lambda forward: RereadRows(forward, policy.device))
    if model not in _chosen:
        right = (i for i, make in enumerate(kinds[:-1]) if _follows(policy, make(policy.hidden_states)))
        _chosen[model] = next(right, len(kinds) - 1)
        if _chosen[model] == len(kinds) - 1:
            warnings.warn(
                f"{type(model).__name__} goes on from no cache that it is given, so sampling reads every completion "
                "anew at each of its tokens, which is slow",
                stacklevel=4,
            )
    return kinds[_chosen[model]](forward)


@torch.no_grad()
def _follows(policy: Policy, rows: CacheRows) -> bool:
    """Whether the states of tokens after a prompt are those of whole passes."""
    vocabulary = policy.causal_lm.get_input_embeddings().num_embeddings
    lengths = (5, 3 if rows.mixed else 5)
    ids = [[1 + (7 * row + i) % (vocabulary - 1) for i in range(n + STEPS)] for row, n in enumerate(lengths)]
    whole = [policy.hidden_states(torch.tensor([row], device=policy.device))[0, -STEPS:] for row in ids]
    try:
        rows.join([tuple(row[:-STEPS]) for row in ids], [1, 1], lengths[0] + STEPS)
        steps = [rows.step(torch.tensor([row[i] for row in ids], device=policy.device)) for i in range(-STEPS, 0)]
    except Exception:  # whatever a model that is not made for this may raise
        return False
    expected, found = torch.stack(whole).double(), torch.stack(steps, dim=1).double()
    if not bool(expected.isfinite().all()):
        return True  # nothing to compare with, and the sampling will say so
    errors = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
    tolerance = TOLERANCE if policy.device.type == "cpu" else DEVICE_TOLERANCE
    if policy.causal_lm.dtype.itemsize == 2:
        tolerance = HALF_TOLERANCE
    return bool((errors.median(dim=-1).values <= tolerance).all())
