"""Adapters of every kind that peft has, on tiny models of several families, far from their beginnings."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

TEXT: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
MROPE = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4}

SPECIAL: dict[str, int | None] = {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0}

MODELS: Mapping[str, Callable[[], Any]] = {
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**TEXT, tie_word_embeddings=True)),
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT, tie_word_embeddings=False)),
    "biased": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT, attention_bias=True)),
    "gpt2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64, **SPECIAL)
    ),
    "qwen3moe": lambda: hf.Qwen3MoeForCausalLM(
        hf.Qwen3MoeConfig(**TEXT, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
    ),
    "gptoss": lambda: hf.GptOssForCausalLM(hf.GptOssConfig(**TEXT, num_local_experts=4, num_experts_per_tok=2)),
    "gemma3": lambda: hf.Gemma3ForConditionalGeneration(
        hf.Gemma3Config(text_config=TEXT | {"sliding_window": 16}, vision_config=VISION, mm_tokens_per_image=4)
    ),
    "llava": lambda: hf.LlavaForConditionalGeneration(
        hf.LlavaConfig(
            text_config=hf.LlamaConfig(**TEXT),
            vision_config=hf.CLIPVisionConfig(**VISION, projection_dim=32),
            image_token_index=96,
        )
    ),
    "qwen25vl": lambda: hf.Qwen2_5_VLForConditionalGeneration(
        hf.Qwen2_5_VLConfig(
            text_config=TEXT | SPECIAL | {"rope_parameters": MROPE},
            vision_config={
                "depth": 1,
                "hidden_size": 32,
                "num_heads": 4,
                "intermediate_size": 48,
                "out_hidden_size": 32,
            },
        )
    ),
}
"""Families: a tied and an untied head, biases, transposed matrices, experts in one tensor, and multimodal ones."""

ATTENTION = ["q_proj", "v_proj"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]

LORA: Mapping[str, tuple[str, dict[str, Any]]] = {
    "plain": ("qwen3", {"target_modules": ATTENTION}),
    "all linear": ("llama", {"target_modules": "all-linear"}),
    "rslora": ("qwen3", {"target_modules": ATTENTION, "use_rslora": True}),
    "dora": ("qwen3", {"target_modules": ATTENTION, "use_dora": True}),
    "dora on an embedding": ("llama", {"target_modules": ["embed_tokens", "q_proj"], "use_dora": True}),
    "bias of its own": ("gpt2", {"target_modules": ["c_attn"], "lora_bias": True, "fan_in_fan_out": True}),
    "the base's biases": ("gpt2", {"target_modules": ["c_attn"], "bias": "lora_only", "fan_in_fan_out": True}),
    "all biases": ("gpt2", {"target_modules": ["c_attn"], "bias": "all", "fan_in_fan_out": True}),
    "dora transposed": ("gpt2", {"target_modules": ["c_attn"], "use_dora": True, "fan_in_fan_out": True}),
    "embedding": ("llama", {"target_modules": ["embed_tokens", "lm_head"]}),
    "modules to save": ("llama", {"target_modules": ATTENTION, "modules_to_save": ["norm", "embed_tokens"]}),
    "tied modules to save": ("qwen3", {"target_modules": ATTENTION, "modules_to_save": ["embed_tokens"]}),
    "trainable tokens": ("qwen3", {"target_modules": ATTENTION, "trainable_token_indices": [3, 5]}),
    "trainable tokens untied": ("llama", {"target_modules": ATTENTION, "trainable_token_indices": [3, 5]}),
    "patterns": ("qwen3", {"target_modules": ATTENTION, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}}),
    "pissa": ("qwen3", {"target_modules": ATTENTION, "init_lora_weights": "pissa"}),
    "experts": ("qwen3moe", {"target_modules": ["q_proj"], "target_parameters": EXPERTS}),
    "experts alone": ("qwen3moe", {"target_modules": [], "target_parameters": EXPERTS[:1]}),
    "transposed experts": ("gptoss", {"target_modules": ["q_proj"], "target_parameters": EXPERTS}),
    "gemma3": ("gemma3", {"target_modules": r".*language_model.*\.(q_proj|down_proj)"}),
    "llava, both parts": ("llava", {"target_modules": ATTENTION}),
    "llava, dora": ("llava", {"target_modules": ATTENTION, "use_dora": True}),
    "qwen25vl": ("qwen25vl", {"target_modules": ["q_proj", "qkv"]}),
}
"""By name: LoRA in all its forms, as the family and the settings."""

SETTINGS: Mapping[str, dict[str, Any]] = {
    "ADALORA": {"total_step": 10, "init_r": 4, "target_r": 2},
    "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 8},
    "FOURIERFT": {"n_frequency": 20},
    "FROD": {"target_modules": ["q_proj"]},
    "IA3": {"target_modules": ["q_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "OFT": {"oft_block_size": 8, "r": 0},
    "ROAD": {"group_size": 16},
    "TRAINABLE_TOKENS": {"token_indices": [3, 5], "target_modules": ["embed_tokens"]},
    "UNILORA": {"theta_d_length": 64},
    "VBLORA": {"vector_length": 8, "num_vectors": 16},
    "WAVEFT": {"n_frequency": 64},
}
"""What kinds besides LoRA need in addition to `target_modules` and a rank."""

CANNOT_BE_MERGED = {"LILY", "POLY", "SHADOW", "XLORA", "ADAPTION_PROMPT"}
"""Kinds whose effect depends on the input, or is no change of weights."""

NOT_HERE = {"ADAMSS"}
"""Kinds that need a package which is not among this project's."""


def base(family: str, seed: int = 0) -> Any:
    """A tiny random model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MODELS[family]()
    # Norms and biases that begin as ones and zeros would hide a factor that is left out.
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def stir(model: Any, size: float = 0.1, seed: int = 1) -> Any:
    """Move every trainable weight, as training does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += size * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def lora(name: str, model: Any = None) -> Any:
    """A model with one of the forms of LoRA, at its beginning."""
    family, settings = LORA[name]
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, **settings)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(2)
        return get_peft_model(base(family) if model is None else model, config)


def other(kind: Any, model: Any = None) -> Any:
    """A model with an adapter of another kind, at its beginning."""
    import inspect

    cls: Any = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    known = inspect.signature(cls).parameters
    family = "biased" if kind.value == "BEFT" else "qwen3"
    settings = {"target_modules": ATTENTION, "r": 4, "rank": 4, "num_virtual_tokens": 4} | SETTINGS.get(kind.value, {})
    settings = {name: value for name, value in settings.items() if name in known}
    if kind.value == "ADALORA":
        settings.pop("r")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(2)
        return get_peft_model(base(family) if model is None else model, cls(task_type="CAUSAL_LM", **settings))
