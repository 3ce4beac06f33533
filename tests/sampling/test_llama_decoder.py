"""`holdfast.sampling.llama_decoder` and `holdfast.sampling.decoding_head`: which models get them, and that they
agree."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from holdfast.config.settings import LoraSettings, ModelSettings
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.objective.head import OutputHead
from holdfast.sampling.decoding_head import PASSES, DecodingHead
from holdfast.sampling.llama_decoder import llama_decoder

SIZES: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0,
}  # fmt: skip


class _ModelOnly(Policy):
    """A policy that has only a model and its head."""

    def __init__(self, model: Any, head: OutputHead | None = None) -> None:
        self.model, self.head = model.eval(), head or OutputHead(model.get_output_embeddings())


def model_only(config: PretrainedConfig) -> Policy:
    torch.manual_seed(0)
    return _ModelOnly(AutoModelForCausalLM.from_config(config))


@pytest.mark.parametrize(
    ("config", "is_llama_like"),
    [
        (LlamaConfig(**SIZES), True),
        (LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, head_dim=16), True),
        (LlamaConfig(**SIZES, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}), True),
        (Qwen2Config(**SIZES), True),
        (Qwen3Config(**SIZES, head_dim=8), True),
        (MistralConfig(**SIZES, sliding_window=None), True),
        (MistralConfig(**SIZES, sliding_window=128), False),
        (
            GraniteConfig(**SIZES, residual_multiplier=0.5),
            False,
        ),  # same module names, other computation
        (GraniteConfig(**SIZES, embedding_multiplier=3.0), False),
        (Gemma2Config(**SIZES, head_dim=8), False),
        (Olmo2Config(**SIZES), False),
    ],
    ids=lambda value: value.model_type if isinstance(value, PretrainedConfig) else str(value),
)
def test_which_models_are_llama_like(config: PretrainedConfig, is_llama_like: bool) -> None:
    assert (llama_decoder(model_only(config)) is not None) == is_llama_like


def test_a_model_whose_attention_changes_with_the_position_is_not_llama_like(monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference that appears only far from the start is caught by the check at the end of the context."""
    policy = model_only(LlamaConfig(**SIZES))
    attention = type(policy.causal_lm.get_decoder().layers[0].self_attn)
    forward = attention.forward

    def scaled(self: nn.Module, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        far = kwargs["position_ids"][..., None] > 200
        output, weights = forward(self, hidden_states, *args, **kwargs)
        return torch.where(far, 2 * output, output), weights

    monkeypatch.setattr(attention, "forward", scaled)
    assert llama_decoder(policy) is None


def test_half_precision_uses_the_models_own_forward() -> None:
    policy = model_only(LlamaConfig(**SIZES))
    policy.model = policy.model.to(torch.bfloat16)
    assert llama_decoder(policy) is None


def test_the_decoder_includes_adapters(tiny_model: Path) -> None:
    policy = load_policy(ModelSettings(path=str(tiny_model), lora=LoraSettings(r=4)))
    with torch.no_grad():
        for name, parameter in policy.named_trainable().items():
            if ".lora_B." in name:
                parameter += 0.3
    decoder = llama_decoder(policy)
    assert decoder is not None

    def first(_: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """The attention of a sequence's first token is its own value, whatever the scores."""
        return value.repeat_interleave(query.shape[1] // value.shape[1], dim=1).flatten(1)

    tokens = torch.tensor([5, 9, 40])
    with torch.no_grad():
        states = decoder(tokens, torch.zeros(3, dtype=torch.long), first)
        torch.testing.assert_close(states, policy.hidden_states(tokens[:, None])[:, 0], atol=1e-4, rtol=1e-4)
        with policy.base():
            assert not torch.allclose(decoder(tokens, torch.zeros(3, dtype=torch.long), first), states, atol=1e-2)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.25, 3.0)])
def test_a_reordered_head_gives_the_same_logits(bias: bool, scale: float, softcap: float | None) -> None:
    torch.manual_seed(0)
    projection = nn.Linear(24, 501, bias=bias)
    policy = _ModelOnly(nn.Identity(), OutputHead(projection, scale, softcap))
    head = DecodingHead(policy)
    with torch.no_grad():
        for rows in [*[4] * PASSES, 16, 1, 7, 40]:
            hidden = torch.randn(rows, 24) * 5
            logits = hidden.double() @ projection.weight.double().T + (projection.bias.double() if bias else 0.0)
            logits = logits * scale if softcap is None else torch.tanh(logits * scale / softcap) * softcap
            torch.testing.assert_close(head(hidden), logits.float(), atol=1e-5, rtol=1e-5)


def test_half_precision_uses_the_models_own_head() -> None:
    policy = _ModelOnly(nn.Identity(), OutputHead(nn.Linear(24, 51).bfloat16()))
    head = DecodingHead(policy)
    hidden = torch.randn(3, 24).bfloat16()
    with torch.no_grad():
        for _ in range(PASSES + 1):
            logits = head(hidden)
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, policy.logits(hidden).float())
