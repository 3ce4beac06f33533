"""`tests/helpers/tiny_model.py`: a small random model that transformers loads, with a chat template."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny_model import SAMPLE_TEXTS, build_tiny_model

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "12 plus 30?"}]


def test_loads_by_the_auto_classes_as_safetensors_and_generates(tiny_model: Path):
    assert (tiny_model / "model.safetensors").is_file()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    assert model.config.model_type == "qwen3"
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.config.vocab_size == len(tokenizer)
    ids = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**ids, max_new_tokens=4, do_sample=False)
    assert out.shape[1] <= ids["input_ids"].shape[1] + 4


def test_chat_template_and_round_trip(tiny_model: Path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    text = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n12 plus 30?<|im_end|>\n<|im_start|>assistant\n"
    )
    without = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False, enable_thinking=False)
    assert without == text + "<think>\n\n</think>\n\n"
    for sample in (*SAMPLE_TEXTS, "naïve 漢字 🙂\n\n  x", without):
        assert tokenizer.decode(tokenizer.encode(sample), skip_special_tokens=False) == sample
    assert tokenizer.decode(tokenizer.encode("<think>a</think>"), skip_special_tokens=True) == "<think>a</think>"


def test_the_same_seed_gives_the_same_model(tiny_model: Path, tmp_path: Path):
    before = torch.random.get_rng_state()
    again = build_tiny_model(tmp_path / "again", texts=SAMPLE_TEXTS)
    assert torch.equal(before, torch.random.get_rng_state())
    other = build_tiny_model(tmp_path / "other", texts=SAMPLE_TEXTS, seed=1)
    files = [(f / "model.safetensors").read_bytes() for f in (tiny_model, again, other)]
    assert files[0] == files[1]
    assert files[0] != files[2]
    assert (tiny_model / "tokenizer.json").read_bytes() == (again / "tokenizer.json").read_bytes()
