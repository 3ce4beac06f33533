"""From rows to the final hidden states that predict their loss tokens.

If the model allows it, rows are packed into one stream of real tokens, each distinct prompt once. Whether it does is
measured on first use: packed and padded hidden states of a small batch must agree. Otherwise rows are padded on the
right. Under causal attention no token sees padding to its right, so this form is correct for every decoder.
"""

import math
import warnings
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from holdfast.model.packed_attention import NAME, no_mask
from holdfast.model.packing import Packed, Positions, pack
from holdfast.model.policy import Policy, attends_everywhere

TOLERANCE, DEVICE_TOLERANCE, HALF_TOLERANCE = 2e-5, 2e-3, 5e-2
"""Largest difference of a hidden state between the two forms, relative to its norm. The first is for float32 on a CPU,
where correct forms agree to about 1e-6; the second for float32 elsewhere, which may be TF32; the third for 16-bit
dtypes. They are strict, because a wrong mask can have a small effect at first, and a larger one after training.
"""

_longest: WeakKeyDictionary[nn.Module, float] = WeakKeyDictionary()


def loss_token_states(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    positions: Positions,
) -> Tensor:
    """Hidden states [N, H] that predict the completions' tokens at `positions`, flat in the order of the rows.

    After a prompt of P tokens, the completion's token t is predicted at index P − 1 + t of the sequence. The gradient
    flows into the policy.

    Args:
        prompts: token ids [R][P_r]; never empty. If the model is packed, equal prompts are computed once.
        completions: token ids [R][T_r].
        positions: indices of the tokens to predict in each of the R completions.
    """
    lengths = [len(prompt) + wanted[-1] for prompt, wanted in zip(prompts, positions, strict=True) if wanted]
    if not lengths:
        weight = policy.head.weight
        return torch.zeros(0, weight.shape[1], dtype=weight.dtype, device=policy.device)
    form = packed_states if max(lengths) <= longest_packed(policy) else padded_states
    return form(policy, prompts, completions, positions)


def packed_states(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    positions: Positions,
) -> Tensor:
    """`loss_token_states` from one stream. Correct only up to `longest_packed`."""
    return _stream_states(policy, pack(prompts, completions, positions))


def _stream_states(policy: Policy, packed: Packed) -> Tensor:
    ids, position_ids = packed.ids.to(policy.device), packed.position_ids.to(policy.device)
    hidden = policy.hidden_states(ids, no_mask(ids.device), position_ids, packed_layout=packed.layout)
    return hidden[0, packed.predicts.to(policy.device)]


def padded_states(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    positions: Positions,
) -> Tensor:
    """`loss_token_states` from rows padded on the right."""
    sequences: list[list[int]] = []
    rows: list[int] = []
    columns: list[int] = []
    for prompt, completion, wanted in zip(prompts, completions, positions, strict=True):
        if wanted:
            rows += [len(sequences)] * len(wanted)
            columns += [len(prompt) - 1 + t for t in wanted]
            sequences.append([*prompt, *completion[: wanted[-1]]])
    ids = torch.full((len(sequences), max(map(len, sequences))), policy.pad_id)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = torch.tensor(sequence)
    hidden = policy.hidden_states(ids.to(policy.device))
    index = torch.tensor([rows, columns], device=policy.device)
    return hidden[index[0], index[1]]


def longest_packed(policy: Policy) -> float:
    """Tokens of the longest sequence that this policy computes correctly when packed: infinity, a window, or 0.

    This is measured on first use, by two small forward passes, and stored for the model. A model that can be packed
    gets another `attn_implementation`, which computes the same for calls that are not packed. Processes that share a
    sharded model must all call this at the same time.
    """
    model = policy.causal_lm
    if model not in _longest:
        _longest[model] = _measure(policy)
    return _longest[model]


def _measure(policy: Policy) -> float:
    model = policy.causal_lm
    given = model.config._attn_implementation
    if given not in ("sdpa", NAME):
        return 0  # the user chose another attention
    try:
        limit = _checked(policy)
    except Exception as error:  # a model that was not written for this may raise anything
        model.set_attn_implementation(given)
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        warnings.warn(f"{type(model).__name__} cannot be packed, so rows are padded: {reason}", stacklevel=4)
        return 0
    return limit


def _checked(policy: Policy) -> float:
    """`longest_packed` of a model whose packed and padded forms agree; any other model raises an error."""
    model = policy.causal_lm
    config = model.config.get_text_config(decoder=True)
    if not model._can_set_attn_implementation():
        raise ValueError("its attention cannot be replaced")
    if getattr(model, "_is_stateful", False) or not attends_everywhere(model):
        raise ValueError("it has layers with a recurrent state")
    # The test below has too few tokens to notice a window or a chunk, so these come from the configuration.
    limits = [w for w in (getattr(config, "sliding_window", None), getattr(config, "attention_chunk_size", None)) if w]
    tokens = [1 + i % (config.vocab_size - 1) for i in range(32)]
    prompts = [tokens[:5], tokens[:5], tokens[5:8], tokens[:5], tokens[5:8], tokens[8:10]]
    completions = [tokens[10:13], tokens[13:18], tokens[18:20], tokens[20:23], tokens[23:28], tokens[28:32]]
    batch = (prompts, completions, [range(len(completion)) for completion in completions])
    packed = pack(*batch)
    if packed.layout.longest > min(limits, default=math.inf):
        raise ValueError(f"its attention window has only {min(limits)} tokens")
    with torch.no_grad(), torch.autocast(policy.device.type, enabled=False):
        expected = padded_states(policy, *batch).cpu().double()
        model.set_attn_implementation(NAME)
        streamed = _stream_states(policy, packed).cpu().double()
    error = float(((streamed - expected).norm(dim=-1) / expected.norm(dim=-1)).max())
    tolerance = TOLERANCE if policy.device.type == "cpu" else DEVICE_TOLERANCE
    # `not <=`, so that NaN is refused too.
    if not error <= (HALF_TOLERANCE if model.dtype.itemsize == 2 else tolerance):
        raise ValueError(f"packed hidden states differ from padded ones by {error:.1g} of their norm")
    if packed.layout.narrowest_window is not None:
        limits.append(packed.layout.narrowest_window)
    return min(limits, default=math.inf)
