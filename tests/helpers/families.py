"""Tiny random models of the common families, as Hugging Face folders.

Each has its family's architecture, chat template, special tokens, and tokens that end a completion. Chat templates are
those that TRL ships where it ships one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trl_templates import THINK_TAGS, text_of, tokenizer_for, tokens_in

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from holdfast.data.example import Example

MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' %}{{ raise_exception('Only user and assistant roles are supported') }}"
    "{% elif message.role == 'user' %}{{ '[INST] ' + message.content + '[/INST]' }}"
    "{% else %}{{ ' ' + message.content + eos_token }}{% endif %}{% endfor %}"
)
"""As in the 7B models: no generation prompt, and no system turn."""

OLMO = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message.role + '|>\n' + message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{% if not loop.last %}{{ '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '\n<|assistant|>\n' }}{% endif %}"
)
"""As in OLMo 2: roles are plain text."""

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A family of models.

    Args:
        name: in test ids.
        kind: the architecture, as `AutoConfig.for_model` names it.
        template: a chat template of TRL, by name, or the template itself.
        eos: the tokenizer's.
        ends: all tokens that end a completion in the generation configuration; by default `eos`.
        special: special tokens that neither the template nor `bos`, `eos`, `pad` name.
        plain: tokens that are not special.
        settings: of the architecture.
        bare: what the model writes after its generation prompt for a demonstration without thoughts. `{content}` is the
            demonstration.
        thinking: the same for thoughts and an answer; None if the template knows no thoughts, so that they are text.
    """

    name: str
    kind: str
    template: str
    eos: str
    bos: str | None = None
    pad: str | None = None
    ends: tuple[str, ...] = ()
    special: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    adds_bos: bool = False
    strips_right: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    bare: str = "{content}"
    thinking: str | None = None

    def tokenizer(self) -> "PreTrainedTokenizerFast":
        template = self.template if "{" in self.template else text_of(self.template)
        special = [token for token in tokens_in(template) if token not in self.plain]
        return tokenizer_for(
            template,
            special=[*special, *self.special] if self.template is not OLMO else [],
            plain=self.plain,
            bos=self.bos,
            eos=self.eos,
            pad=self.pad,
            adds_bos=self.adds_bos,
            strips_right=self.strips_right,
        )

    def write(self, folder: Path, seed: int = 0) -> Path:
        """Write the model with random weights, and its tokenizer, into a folder."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

        tokenizer = self.tokenizer()
        ends = tokenizer.convert_tokens_to_ids(list(self.ends or (self.eos,)))
        tokens = {
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": ends if len(ends) > 1 else ends[0],
            "pad_token_id": tokenizer.pad_token_id,
        }
        rows = -(-len(tokenizer) // 64) * 64  # more than tokens, as in most real models
        config = AutoConfig.for_model(self.kind, **{**_SIZES, "vocab_size": rows, **tokens, **self.settings})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.generation_config = GenerationConfig(**tokens)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder


def equals(example: "Example", completion: str) -> float:
    """A verifier that forgives nothing: every character of the answer's content counts."""
    return float(completion == example.answer)


_SIZES: Mapping[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 4096,
    "initializer_range": 0.05,
}
_MOE: Mapping[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_WINDOW: Mapping[str, Any] = {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}
_LLAMA_ENDS = ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")
_QWEN_ENDS = ("<|im_end|>", "<|endoftext|>")
_SENTENCE = "<｜end▁of▁sentence｜>"

FAMILIES = (
    Family("qwen2", "qwen2", "qwen2_5", "<|im_end|>", pad="<|endoftext|>", ends=_QWEN_ENDS),
    Family(
        "qwen3",
        "qwen3",
        "qwen3",
        "<|im_end|>",
        pad="<|endoftext|>",
        ends=_QWEN_ENDS,
        plain=THINK_TAGS,
        settings={"tie_word_embeddings": True},
        bare="<think>\n\n</think>\n\n{content}",
        thinking="<think>\n{thoughts}\n</think>\n\n{content}",
    ),
    Family(
        "qwen3-moe",
        "qwen3_moe",
        "qwen3_instruct_2507",
        "<|im_end|>",
        pad="<|endoftext|>",
        ends=_QWEN_ENDS,
        plain=THINK_TAGS,
        settings=_MOE,
    ),
    Family(
        "llama-tied",
        "llama",
        "llama3_2",
        "<|eot_id|>",
        bos="<|begin_of_text|>",
        ends=_LLAMA_ENDS,
        special=_LLAMA_ENDS,
        adds_bos=True,
        settings={"tie_word_embeddings": True},
    ),
    Family(
        "llama-untied",
        "llama",
        "llama3",
        "<|eot_id|>",
        bos="<|begin_of_text|>",
        ends=_LLAMA_ENDS,
        special=_LLAMA_ENDS,
        adds_bos=True,
        settings={"tie_word_embeddings": False},
    ),
    Family(
        "gemma2",
        "gemma2",
        "gemma",
        "<eos>",
        bos="<bos>",
        pad="<pad>",
        ends=("<eos>", "<end_of_turn>"),
        adds_bos=True,
        settings={**_WINDOW, "query_pre_attn_scalar": 32, "tie_word_embeddings": True},
    ),
    Family(
        "gemma3",
        "gemma3_text",
        "gemma3",
        "<eos>",
        bos="<bos>",
        pad="<pad>",
        ends=("<eos>", "<end_of_turn>"),
        adds_bos=True,
        settings={**_WINDOW, "query_pre_attn_scalar": 32, "tie_word_embeddings": True},
    ),
    Family(
        "phi3",
        "phi3",
        "phi3",
        "<|endoftext|>",
        bos="<s>",
        pad="<|endoftext|>",
        ends=("<|endoftext|>", "<|assistant|>", "<|end|>"),
        strips_right=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    ),
    Family(
        "mistral",
        "mistral",
        MISTRAL,
        "</s>",
        bos="<s>",
        adds_bos=True,
        settings={"sliding_window": None},
        bare=" {content}",
    ),
    Family("olmo2", "olmo2", OLMO, "<|endoftext|>", bos="<|endoftext|>", pad="<|pad|>"),
    Family(
        "gpt-oss",
        "gpt_oss",
        "gptoss",
        "<|return|>",
        bos="<|startoftext|>",
        pad="<|endoftext|>",
        ends=("<|return|>", "<|endoftext|>", "<|call|>"),
        special=("<|constrain|>",),
        settings={**_WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
        bare="<|channel|>final<|message|>{content}",
        thinking="<|channel|>analysis<|message|>{thoughts}<|end|><|start|>assistant"
        "<|channel|>final<|message|>{content}",
    ),
    Family(
        "r1-distill",
        "qwen2",
        "deepseek_r1_distill",
        _SENTENCE,
        bos="<｜begin▁of▁sentence｜>",
        pad=_SENTENCE,
        plain=("<｜User｜>", "<｜Assistant｜>", *THINK_TAGS),
        adds_bos=True,
        bare="\n</think>\n\n{content}",
        thinking="{thoughts}\n</think>\n\n{content}",
    ),
    Family(
        "mamba2",
        "mamba2",
        CHATML,
        "<|im_end|>",
        pad="<|endoftext|>",
        settings={"num_heads": 8, "n_groups": 1, "state_size": 16, "chunk_size": 32},
    ),
    Family(
        "cohere2",
        "cohere2",
        "cohere2",
        "<|END_OF_TURN_TOKEN|>",
        bos="<BOS_TOKEN>",
        pad="<PAD>",
        adds_bos=True,
        settings={**_WINDOW, "logit_scale": 1.0},
        bare="{content}<|END_RESPONSE|>",
    ),
    Family(
        "glm4-moe",
        "glm4_moe",
        "glm4moe",
        "<|endoftext|>",
        pad="<|endoftext|>",
        ends=("<|endoftext|>", "<|user|>", "<|observation|>"),
        plain=THINK_TAGS,
        settings={
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 64,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
        },
        bare="\n<think></think>\n{content}",
        thinking="\n<think>{thoughts}</think>\n{content}",
    ),
    Family(
        "lfm2",
        "lfm2",
        "lfm2",
        "<|im_end|>",
        bos="<|startoftext|>",
        pad="<|pad|>",
        adds_bos=True,
        settings={"layer_types": ["conv", "full_attention"]},
    ),
    Family(
        "nemotron-h",
        "nemotron_h",
        "nemotron_3_nano",
        "<|im_end|>",
        bos="<s>",
        pad="</s>",
        ends=("</s>", "<|im_end|>"),
        plain=THINK_TAGS,
        settings={
            "layers_block_type": ["mamba", "attention"],
            "mamba_num_heads": 16,
            "mamba_head_dim": 16,
            "ssm_state_size": 16,
            "n_groups": 1,
            "chunk_size": 32,
        },
        bare="</think>{content}",
        thinking="{thoughts}\n</think>\n{content}",
    ),
)
