"""One token of every row through the weights of a Llama-like decoder, with nothing in between.

The library's forward builds masks, converts dtypes and dispatches at every layer, which for single tokens takes as long
as the products themselves. Whether a model is of this kind (Llama, Qwen2, Qwen3, Mistral and their like) follows from
the names of its parts and from a check on first use: what it computes here must agree with its own forward, also
at the far end of its context. Any other model decodes by its own forward.
"""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from holdfast.model.policy import Policy, decoder_states

TOLERANCE = 1e-5
"""Relative error of states below which the model's own forward counts as followed. In float32 a right answer agrees
to some 4e-7; what a wrong one leaves out may be small at first and grow with the weights."""

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""The attention of layer i: scaled queries [R, Hq, D], new keys and values [R, Hkv, D] to outputs [R, Hq · D]."""

COPIED = 2**24
"""Weights of all layers, at most, where projections of the same states are joined; larger ones gain nothing by it."""

LAYER = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}

MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}

_approved: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


class LlamaDecoder:
    """The decoder of a model that `llama_decoder` approves, with its weights as they are when this is made.

    Projections of the same states are one product where their weights are small enough to be copied side by side; all
    others, and those with adapters, are the model's own modules.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        decoder: Any = model.get_decoder()
        self._embed, self._rotary, self._norm = decoder.embed_tokens, decoder.rotary_emb, decoder.norm
        small = sum(parameter.numel() for parameter in decoder.layers.parameters()) <= COPIED
        self._layers = []
        for layer in decoder.layers:
            attention, mlp = layer.self_attn, layer.mlp
            inputs = _joint((attention.q_proj, attention.k_proj, attention.v_proj), small)
            self._layers.append((layer, inputs, _joint((mlp.gate_proj, mlp.up_proj), small)))

    def __call__(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Final hidden states [R, H] of tokens [R] at positions [R]."""
        hidden = self._embed(tokens)
        cos, sin = self._rotary(hidden[:, None], positions[:, None])  # [R, 1, D]
        half = cos.shape[-1] // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
        for index, (layer, inputs, gates) in enumerate(self._layers):
            attention, mlp = layer.self_attn, layer.mlp
            query, key, value = (
                states.unflatten(-1, (-1, attention.head_dim)) for states in inputs(_rms(layer.input_layernorm, hidden))
            )
            if hasattr(attention, "q_norm"):
                query, key = _rms(attention.q_norm, query), _rms(attention.k_norm, key)
            query, key = (torch.addcmul(x * cos, x.roll(half, -1), sin) for x in (query, key))
            hidden = hidden + attention.o_proj(attend(index, query.mul_(attention.scaling), key, value))
            gate, up = gates(_rms(layer.post_attention_layernorm, hidden))
            hidden = hidden + mlp.down_proj(mlp.act_fn(gate).mul_(up))
        return _rms(self._norm, hidden)


def _joint(projections: Sequence[nn.Module], small: bool) -> Callable[[Tensor], Sequence[Tensor]]:
    """What several projections make of the same states."""
    linear = [projection for projection in projections if type(projection) is nn.Linear]
    if not small or len(linear) < len(projections) or len({projection.bias is None for projection in linear}) > 1:
        return lambda states: [projection(states) for projection in projections]
    weight = torch.cat([projection.weight for projection in linear])
    bias = None if linear[0].bias is None else torch.cat([projection.bias for projection in linear])
    sizes = [projection.out_features for projection in linear]
    return lambda states: F.linear(states, weight, bias).split(sizes, dim=-1)


def _rms(norm: Any, states: Tensor) -> Tensor:
    return F.rms_norm(states, norm.weight.shape, norm.weight, norm.variance_epsilon)


def llama_decoder(policy: Policy) -> LlamaDecoder | None:
    """A policy's decoder, where it is Llama-like and runs in float32 on a CPU; None for any other.

    Checked on first use, by two small forward passes, and remembered for the model.
    """
    model = policy.causal_lm
    if policy.device.type != "cpu" or model.dtype != torch.float32:
        return None  # elsewhere the library's attention has kernels that are better than products of matrices
    if model not in _approved:
        _approved[model] = _is_llama_like(model) and _agrees(model, policy.context_length)
    return LlamaDecoder(model) if _approved[model] else None


def _is_llama_like(model: PreTrainedModel) -> bool:
    """Whether its parts are those that `LlamaDecoder` knows, and every layer's attention is full."""
    decoder = model.get_decoder()
    if not {"embed_tokens", "layers", "norm", "rotary_emb"}.issuperset(dict(decoder.named_children())):
        return False
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=model.config).layers):
        return False
    if getattr(model.config.get_text_config(decoder=True), "attention_chunk_size", None) is not None:
        return False
    return all(
        set(dict(layer.named_children())) == LAYER
        and set(dict(layer.self_attn.named_children())) - {"q_norm", "k_norm"} == ATTENTION
        and set(dict(layer.mlp.named_children())) == MLP
        and not dict(layer.self_attn.named_parameters(recurse=False))
        for layer in decoder.layers
    )


@torch.no_grad()
def _agrees(model: PreTrainedModel, context_length: int | None) -> bool:
    """Whether the states of tokens after a prompt are those of the model's own forward, near and far."""
    return all(_agrees_from(model, start) for start in (0, max(0, (context_length or 2048) - 7)))


def _agrees_from(model: PreTrainedModel, start: int) -> bool:
    """The same for a prompt of 4 tokens and 3 more, the first one at position `start`."""
    layers = model.config.get_text_config(decoder=True).num_hidden_layers
    ids = torch.arange(1, 15).reshape(2, 7) % model.get_input_embeddings().weight.shape[0]
    positions = torch.arange(start, start + 7).expand(2, -1)
    expected = decoder_states(model, ids, None, positions)[:, 4:]
    cache = Cache(layers=[DynamicLayer() for _ in range(layers)])
    decoder_states(model, ids[:, :4], None, positions[:, :4], cache)

    def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys, values = cache.layers[layer].update(key[:, :, None], value[:, :, None])
        query = query.view(*keys.shape[:2], -1, keys.shape[3])
        return ((query @ keys.transpose(-1, -2)).softmax(dim=-1) @ values).reshape(len(query), -1)

    try:
        decoder = LlamaDecoder(model)
        found = torch.stack([decoder(ids[:, t], positions[:, t], attend) for t in range(4, 7)], dim=1)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return False  # parts of the same names that are made in another way
    error = ((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max()
    return float(error) <= TOLERANCE
