"""The conversations that the base is trained on: most are about questions, the others each teach what a few recipes
need."""

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

_SHARES = (0.64, 0.13, 0.09, 0.08, 0.06)


def sample_document(rng: random.Random) -> Document:
    """One document of the mixture."""
    (kind,) = rng.choices(_KINDS, _SHARES)
    return kind(rng)
