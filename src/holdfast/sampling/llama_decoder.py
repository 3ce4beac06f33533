"""A lean decoder for Llama-like models: one token of every row through the weights, and nothing else.

The forward of transformers builds masks, converts dtypes and dispatches at every layer. For single tokens on a CPU this
takes as long as the matrix products. This decoder does without it, and it lets the caller compute the attention.

Whether a model is Llama-like (Llama, Qwen2, Qwen3, Mistral and others) follows from the names of its modules and from a
check at first use: the states that are computed here must agree with the model's own forward, also at the far end of
its context. Any other model decodes with its own forward.
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
"""Relative error of states below which they agree with the model's own forward. In float32, rounding alone gives errors
of about 4e-7. What a wrong decoder leaves out may be small in an untrained model and grow as the weights do, so the
tolerance is close to that."""

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""The attention of a layer. It takes the layer's index, scaled queries [R, Hq, D], and new keys and values [R, Hkv, D].
It returns outputs [R, Hq · D]."""

MAX_COPIED_WEIGHTS = 2**24
"""Weights of all layers up to which the projections of the same states are joined into one matrix. Joining copies the
weights and saves calls; the products of larger matrices take so long that calls do not matter."""

LAYER = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}

MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}

_approved: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""The result of the check, by model. Weak keys, so that a model can be freed."""


class LlamaDecoder:
    """The decoder of a model that `llama_decoder` approves.

    After the weights have changed, a new one must be made. It joins the projections of the same states if the weights
    are small enough to be copied; see `MAX_COPIED_WEIGHTS`. Everything else, including projections with adapters, are
    the model's own modules.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        decoder: Any = model.get_decoder()
        self._embed, self._rotary, self._norm = decoder.embed_tokens, decoder.rotary_emb, decoder.norm
        small = sum(parameter.numel() for parameter in decoder.layers.parameters()) <= MAX_COPIED_WEIGHTS
        self._layers = []
        for layer in decoder.layers:
            attention, mlp = layer.self_attn, layer.mlp
            inputs = _joined((attention.q_proj, attention.k_proj, attention.v_proj), small)
            self._layers.append((layer, inputs, _joined((mlp.gate_proj, mlp.up_proj), small)))

    def __call__(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Final hidden states [R, H] of tokens [R] at positions [R]."""
        hidden = self._embed(tokens)
        cos, sin = self._rotary(hidden[:, None], positions[:, None])  # [R, 1, D]
        half = cos.shape[-1] // 2
        # With this sign, rotating is x · cos + roll(x) · sin: one fused operation, without slicing x at every layer.
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


def _joined(projections: Sequence[nn.Module], small: bool) -> Callable[[Tensor], Sequence[Tensor]]:
    """A function that applies several projections to the same states; as one product if they are small and plain."""
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
    """A policy's decoder if it is Llama-like and runs in float32 on a CPU; None for any other.

    The check is done at first use, with two small forward passes, and its result is kept for the model.
    """
    model = policy.causal_lm
    if policy.device.type != "cpu" or model.dtype != torch.float32:
        return None  # elsewhere, the attention kernels that transformers uses are faster than plain matrix products
    if model not in _approved:
        _approved[model] = _is_llama_like(model) and _agrees(model, policy.context_length)
    return LlamaDecoder(model) if _approved[model] else None


def _is_llama_like(model: PreTrainedModel) -> bool:
    """Whether its modules are those that `LlamaDecoder` knows, and every layer has full attention."""
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
    """Whether the states of tokens after a prompt are those of the model's own forward.

    The check is made at both ends of the context, because position embeddings may be scaled only far from the start.
    """
    return all(_agrees_from(model, start) for start in (0, max(0, (context_length or 2048) - 7)))


def _agrees_from(model: PreTrainedModel, start: int) -> bool:
    """The same for a prompt of 4 tokens and 3 more. The first token is at position `start`."""
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
        actual = torch.stack([decoder(ids[:, t], positions[:, t], attend) for t in range(4, 7)], dim=1)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return False  # modules of the same names that are built in another way
    error = ((actual - expected).norm(dim=-1) / expected.norm(dim=-1)).max()
    return float(error) <= TOLERANCE
