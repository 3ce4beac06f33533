"""Chooses the kind of decoding batch for a model: the fastest kind that computes its states correctly.

A decoder silently ignores keyword arguments that it does not know. One of them may be a cache of another kind than its
own. It then reads every token as if nothing came before it. So the choice is checked at first use: states that are
computed token by token, in rows of different length if the kind allows them, must be those of one forward pass over
each row alone.
"""

import warnings
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from holdfast.model.policy import Policy, attends_everywhere
from holdfast.sampling.kv_batch import DecodingBatch
from holdfast.sampling.kv_equal_length import EqualLengthBatch, UncachedBatch
from holdfast.sampling.kv_left_padded import LeftPaddedBatch
from holdfast.sampling.kv_shared_prompt import SharedPromptBatch
from holdfast.sampling.llama_decoder import llama_decoder
from holdfast.sampling.prefill import Forward, PromptPrefill

TOLERANCE, DEVICE_TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-3, 5e-2
"""Largest difference of a state, relative to its norm: in float32 on a CPU, in float32 on other devices (which may
use TF32), and in dtypes of 16 bits. They are close to the rounding error: what a wrong kind leaves out may be small in
an untrained model and grow as the weights do."""

STEPS = 3
"""Tokens after a prompt that are compared. The median of a row's errors counts, because in a mixture of experts
rounding may send one token to another expert."""

_chosen: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""The index of the chosen kind, by model. Weak keys, so that a model can be freed."""


def decoding_batch(policy: Policy, poll: Callable[[], None]) -> DecodingBatch:
    """An empty decoding batch for a policy's model. The choice of its kind is made once per model.

    The kinds, the fastest first:

    - `SharedPromptBatch` for Llama-like decoders in float32 on a CPU.
    - `LeftPaddedBatch` if every layer is full or sliding-window attention.
    - `EqualLengthBatch` for other models.
    - `UncachedBatch`, with a warning, if the model works with no cache of transformers.

    Args:
        policy: whose model is used.
        poll: called before every forward pass; may raise to end the sampling.
    """

    def forward(ids: Tensor, mask: Tensor | None, positions: Tensor | None, cache: Cache | None) -> Tensor:
        poll()
        return policy.hidden_states(ids, mask, positions, cache)

    model = policy.causal_lm
    layers = DynamicCache(config=model.config).layers
    # Chunked attention has the cache layers of a sliding window, but starts again at fixed positions.
    in_chunks = getattr(model.config.get_text_config(decoder=True), "attention_chunk_size", None) is not None
    may_mix_lengths = attends_everywhere(model) and not in_chunks
    if may_mix_lengths and (decoder := llama_decoder(policy)) is not None:
        return SharedPromptBatch(decoder, PromptPrefill(forward, policy.device, policy.pad_id, len(layers)), poll)

    def left_padded(forward: Forward) -> DecodingBatch:
        prefill = PromptPrefill(forward, policy.device, policy.pad_id, len(layers))
        return LeftPaddedBatch([getattr(layer, "sliding_window", None) for layer in layers], forward, prefill)

    kinds: list[Callable[[Forward], DecodingBatch]] = [left_padded] if may_mix_lengths else []
    kinds.append(lambda forward: EqualLengthBatch(model.config, forward, policy.device))
    kinds.append(lambda forward: UncachedBatch(forward, policy.device))
    if model not in _chosen:
        # The last kind needs no check: it is one forward pass over each row.
        correct = (i for i, make in enumerate(kinds[:-1]) if _is_correct(policy, make(policy.hidden_states)))
        _chosen[model] = next(correct, len(kinds) - 1)
        if _chosen[model] == len(kinds) - 1:
            warnings.warn(
                f"{type(model).__name__} does not continue from a transformers cache. Sampling is slow: each new token "
                "reads its whole completion again.",
                stacklevel=4,
            )
    return kinds[_chosen[model]](forward)


@torch.no_grad()
def _is_correct(policy: Policy, batch: DecodingBatch) -> bool:
    """Whether the states of tokens after a prompt are those of one forward pass over each row."""
    vocabulary = policy.causal_lm.get_input_embeddings().num_embeddings
    lengths = (5, 3 if batch.mixes_lengths else 5)
    ids = [[1 + (7 * row + i) % (vocabulary - 1) for i in range(n + STEPS)] for row, n in enumerate(lengths)]
    whole = [policy.hidden_states(torch.tensor([row], device=policy.device))[0, -STEPS:] for row in ids]
    try:
        batch.add([tuple(row[:-STEPS]) for row in ids], [1, 1], lengths[0] + STEPS)
        steps = [batch.step(torch.tensor([row[i] for row in ids], device=policy.device)) for i in range(-STEPS, 0)]
    except Exception:  # a model that does not support this kind may raise anything
        return False
    expected, actual = torch.stack(whole).double(), torch.stack(steps, dim=1).double()
    if not bool(expected.isfinite().all()):
        return True  # nothing to compare with; sampling itself reports logits that are not finite
    errors = (actual - expected).norm(dim=-1) / expected.norm(dim=-1)
    tolerance = TOLERANCE if policy.device.type == "cpu" else DEVICE_TOLERANCE
    if policy.causal_lm.dtype.itemsize == 2:
        tolerance = HALF_TOLERANCE
    return bool((errors.median(dim=-1).values <= tolerance).all())
