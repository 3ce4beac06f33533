"""The tokenizer of somebody else's training, with a chat template."""

import copy
from typing import Any

from transformers import PreTrainedTokenizerBase

from holdfast.errors import ConfigError


def tokenizer_of(given: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a trainer's `processing_class`, which is one or is a processor that has one.

    Some processors keep the chat template themselves. Then it is given to a copy of the tokenizer.

    Raises:
        ConfigError: there is no tokenizer, or no chat template.
    """
    tokenizer = getattr(given, "tokenizer", given)
    if tokenizer is None:
        raise ConfigError("no tokenizer is given", where="the watcher", fix="call start(model, tokenizer)")
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        what = f"{type(given).__name__} is no tokenizer of transformers, and has none"
        raise ConfigError(what, where="the watcher", fix="give the model's tokenizer")
    template = tokenizer.chat_template or getattr(given, "chat_template", None)
    if not template:
        raise ConfigError("has no chat template", where="the tokenizer", fix="set tokenizer.chat_template")
    if template == tokenizer.chat_template:
        return tokenizer
    own = copy.copy(tokenizer)
    own.chat_template = template
    return own
