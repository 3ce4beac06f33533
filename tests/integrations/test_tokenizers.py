"""`holdfast.integrations.tokenizers`: what a trainer was made with has a tokenizer, or the message is true."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerCallback

from holdfast.errors import ConfigError, ModelError
from holdfast.integrations import Watcher
from holdfast.integrations.tokenizers import tokenizer_of
from watched_training import load, make_trainer, watch, write_suite


def test_a_trainer_without_a_processing_class_is_told_so(tiny_model: Path, tmp_path: Path) -> None:
    trainer = make_trainer("transformers", tiny_model, tmp_path / "out", [])
    bare = type(trainer)(
        model=trainer.model,
        args=trainer.args,
        train_dataset=trainer.train_dataset,
        data_collator=trainer.data_collator,
        callbacks=[watch(tmp_path)],
    )
    with pytest.raises(ConfigError, match=r"made without a processing_class.*processing_class=tokenizer") as caught:
        bare.train()
    assert "chat template" not in str(caught.value)
    assert "\n" not in str(caught.value)


class _Extractor:
    """A processor of images, which has no tokenizer."""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "no tokenizer is given"),
        (SimpleNamespace(tokenizer=None), "no tokenizer is given"),
        (_Extractor(), "_Extractor is no tokenizer of transformers, and has none"),
        ("Qwen/Qwen3-0.6B", "str is no tokenizer"),
        (TrainerCallback(), "TrainerCallback is no tokenizer"),
    ],
)
def test_what_has_no_tokenizer_is_one_line(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        tokenizer_of(given)
    assert caught.value.fix


def test_the_chat_template_of_a_processor_is_its_tokenizers(tiny_model: Path) -> None:
    _, tokenizer = load(tiny_model)
    template, tokenizer.chat_template = tokenizer.chat_template, None
    with pytest.raises(ConfigError, match="has no chat template"):
        tokenizer_of(tokenizer)
    own = tokenizer_of(SimpleNamespace(tokenizer=tokenizer, chat_template=template))
    assert own.chat_template == template
    assert tokenizer.chat_template is None
    assert own("a b").input_ids == tokenizer("a b").input_ids


def test_named_templates_without_a_default_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    model, tokenizer = load(tiny_model)
    tokenizer.chat_template = {"tool_use": tokenizer.chat_template}
    with pytest.raises(ModelError, match="none is named 'default'"):
        Watcher([write_suite(tmp_path / "sums.jsonl")], tmp_path / "run").start(model, tokenizer)


def test_arguments_of_the_template_that_are_ours_are_refused(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "sums.jsonl")
    with pytest.raises(ConfigError, match="chat_template_kwargs: 'tokenize' is set by holdfast"):
        Watcher([suite], tmp_path / "run", chat_template_kwargs={"tokenize": False})
