"""The worlds for pretraining: their documents, their tokenizer, and the weights that training starts from."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from holdfast.lab import documents
from holdfast.lab.documents import Document
from holdfast.lab.wide_words import vocabulary
from holdfast.pretrain import wide_documents
from holdfast.pretrain.tokenizer import build_tokenizer


@dataclass(frozen=True)
class World:
    """Everything that defines a base.

    Args:
        sample_document: draws one conversation.
        build_tokenizer: writes the tokenizer into a folder.
        starts_from: the bundled base that training starts from; None for random weights.
    """

    sample_document: Callable[[random.Random], Document]
    build_tokenizer: Callable[[Path], None]
    starts_from: str | None = None


WORLDS = {
    "lab": World(documents.sample_document, build_tokenizer),
    "wide": World(
        wide_documents.sample_document,
        lambda folder: build_tokenizer(folder, vocabulary(), ("tool",)),
        starts_from="lab",
    ),
}
