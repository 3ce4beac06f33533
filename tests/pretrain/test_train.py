"""`holdfast.pretrain.train`: pretraining resumes exactly, and only what the assistant says is trained on."""

import json
import random
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from holdfast.errors import RunError
from holdfast.lab import voice
from holdfast.lab.documents import Document
from holdfast.lab.words import vocabulary
from holdfast.pretrain.mixture import sample_document
from holdfast.pretrain.tokenizer import build_tokenizer
from holdfast.pretrain.train import PretrainSettings, encode_document, pretrain

TINY = PretrainSettings(
    steps=6,
    documents_per_step=8,
    micro_batches=2,
    hidden_size=32,
    intermediate_size=64,
    layers=2,
    heads=2,
    warmup_steps=2,
    save_steps=2,
    compile=False,
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(str(files("holdfast.lab") / "base"))


def _documents(count: int) -> list[Document]:
    rng = random.Random(1)
    return [sample_document(rng) for _ in range(count)]


def test_every_word_of_the_world_is_one_token_and_any_text_survives(tokenizer: PreTrainedTokenizerBase) -> None:
    for word in vocabulary(*voice.TEXTS):
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1, word
    for text in ("[ a b ]", "so the result is 3 4 .", "Grüße, 你好\nand a second line", "def f(x):\n\n return {x}"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_the_bundled_tokenizer_is_the_one_that_pretraining_builds(tmp_path: Path) -> None:
    build_tokenizer(tmp_path / "built")
    built = AutoTokenizer.from_pretrained(tmp_path / "built")
    bundled = AutoTokenizer.from_pretrained(str(files("holdfast.lab") / "base"))
    assert built.get_vocab() == bundled.get_vocab()
    assert built.chat_template == bundled.chat_template


def test_documents_fit_and_are_written_in_words(tokenizer: PreTrainedTokenizerBase) -> None:
    letters = {token for token in tokenizer.get_vocab() if len(token) == 1 or token.startswith("<0x")}
    for document in _documents(1500):
        ids, _ = encode_document(tokenizer, document)
        assert len(ids) <= 200
        assert not letters & set(tokenizer.convert_ids_to_tokens(ids)), document


def test_only_what_the_assistant_says_is_trained_on(tokenizer: PreTrainedTokenizerBase) -> None:
    kinds = set()
    for document in _documents(400):
        ids, labels = encode_document(tokenizer, document)
        assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
        trained = tokenizer.decode([token for token, label in zip(ids, labels, strict=True) if label != -100])
        turns = [m["content"] for m in document.messages if m["role"] == "assistant"]
        assert [turn.strip() for turn in trained.split("<|end|>")[:-1]] == turns
        whole = tokenizer.decode(ids)
        assert document.given.strip() in whole
        kinds.add((len(turns) > 1, bool(document.given)))
    assert {(False, False), (True, False), (False, True)} <= kinds


def test_prompts_of_pretraining_are_those_of_a_run(tokenizer: PreTrainedTokenizerBase) -> None:
    """The chat template renders a conversation to the same tokens as pretraining does."""
    for document in _documents(100):
        if document.given:
            continue
        *prompt, _ = document.messages
        rendered = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        ids, _ = encode_document(tokenizer, document)
        assert ids[: len(rendered)] == rendered


def test_the_bundled_base_is_small_and_has_no_pickle() -> None:
    folder = Path(str(files("holdfast.lab") / "base"))
    assert sum(f.stat().st_size for f in folder.iterdir()) <= 10_000_000
    assert {f.suffix for f in folder.iterdir()} <= {".json", ".safetensors", ".jinja", ".jsonl"}


def test_the_bundled_base_was_made_with_the_default_settings() -> None:
    log = (files("holdfast.lab") / "base" / "pretraining.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["step"] == len(log) == PretrainSettings().steps
    assert PretrainSettings().seed == 0


def test_an_interrupted_pretraining_resumes_bit_for_bit(tmp_path: Path) -> None:
    def stop_after(step: int) -> None:
        def on_step(line: dict[str, object]) -> None:
            if line["step"] == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pretrain(tmp_path / "stopped", TINY, on_step=on_step)

    whole = pretrain(tmp_path / "whole", TINY)
    stop_after(3)
    stop_after(5)
    resumed = pretrain(tmp_path / "stopped", TINY)
    a, b = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    logs = [(tmp_path / f / "log.jsonl").read_text().splitlines() for f in ("whole", "stopped")]
    whole_losses, losses = ([json.loads(line)["loss"] for line in log] for log in logs)
    assert losses == whole_losses


def test_pretraining_with_other_settings_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    pretrain(tmp_path / "p", replace(TINY, steps=2))
    with pytest.raises(RunError, match="other settings"):
        pretrain(tmp_path / "p", replace(TINY, steps=4))


def test_pretraining_lowers_the_loss(tmp_path: Path) -> None:
    from dataclasses import replace

    pretrain(tmp_path / "p", replace(TINY, steps=40, learning_rate=1e-2))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "p" / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
