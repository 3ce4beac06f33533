"""A small randomly initialized Qwen3 model with a byte-level BPE tokenizer, as a Hugging Face folder."""

from collections.abc import Iterable
from pathlib import Path

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}
{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- endif -%}
{%- endif -%}"""
"""ChatML; as in Qwen3, `enable_thinking=False` opens the answer with an empty think block."""

SAMPLE_TEXTS = (
    "Given a question and four options, please select the right answer.",
    "<reasoning>\nThe molecule has two rings.\n</reasoning>\n<answer>\nB\n</answer>",
    'Thought: I should look it up.\nAction: searchImages\nAction Input: {"color": "wild", "page": 1}',
    "What is the capital of France? Paris. What is 12 plus 30? 42.",
)
"""Enough for a tokenizer where a test does not care about the words."""


def build_tiny_model(
    folder: Path,
    *,
    hidden_size: int = 64,
    layers: int = 2,
    vocab_size: int = 2048,
    seed: int = 0,
    texts: Iterable[str],
) -> Path:
    """Write a model, its tokenizer and its chat template into a folder that the Auto classes load.

    Args:
        folder: made if absent.
        hidden_size: a multiple of 16; heads are 16 wide, or 32 from a width of 128 on.
        layers: number of transformer layers.
        vocab_size: upper bound; fewer tokens where the texts do not give so many merges.
        seed: of the weights; the same seed and texts give the same files.
        texts: what the tokenizer is trained on.

    Returns:
        The folder.
    """
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    tokenizer = _tokenizer(texts, vocab_size)
    head_dim = 32 if hidden_size >= 128 else 16
    heads = max(2, hidden_size // head_dim)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        head_dim=head_dim,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(texts: Iterable[str], vocab_size: int):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.add_tokens([AddedToken(t, normalized=False, special=False) for t in ("<think>", "</think>")])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=8192
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
