"""The conversations that the wider base is trained on: about half from the first world, half from the wider world."""

import random

from holdfast.lab import documents, languages, quests, songs, steps
from holdfast.lab.documents import Document

_KINDS = (
    documents.sample_document,
    steps.sample_document,
    quests.sample_document,
    languages.sample_document,
    songs.sample_document,
)

_SHARES = (0.46, 0.22, 0.14, 0.1, 0.08)


def sample_document(rng: random.Random) -> Document:
    """One document of the mixture."""
    (kind,) = rng.choices(_KINDS, _SHARES)
    return kind(rng)
