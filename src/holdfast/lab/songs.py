"""Songs: first a fork, at which several words are possible, then locks, at which one word is correct.

A request names a kind of song. One of its six songs is intended, but the prompt does not say which. Documents sing some
of the six more often than others. The words after the title are fixed, but documents contain errors: sometimes a word
is replaced by another. Low temperatures always sing the same song; high temperatures sing wrong words.
"""

import random
from collections.abc import Sequence

from holdfast.data.example import Example, Message, Verdict
from holdfast.data.task import built_in
from holdfast.lab.documents import Document
from holdfast.lab.headers import free_header, system
from holdfast.lab.words import (
    ENTITIES,
    HEADER_WORDS,
    LETTERS,
    NEW_ENTITIES,
    OBJECTS,
    PEOPLE,
    PLACES,
    SONG_KINDS,
    SONG_TITLES,
)

LOCKS = 6
"""Words that follow a title."""

MISREMEMBERED = 0.08
"""Probability that a word after the title is replaced by another word."""

SHARES = (0.4, 0.2, 0.14, 0.1, 0.09, 0.07)
"""Frequencies of a kind's songs in the documents."""

DISTRACTORS = [*ENTITIES, *NEW_ENTITIES, *HEADER_WORDS, *OBJECTS, *PEOPLE, *PLACES]

_rng = random.Random(41)

SONGS: dict[str, tuple[str, ...]] = {
    kind: tuple(
        " ".join([title, *_rng.choices(LETTERS, k=LOCKS)])
        for title in SONG_TITLES[i * len(SHARES) : (i + 1) * len(SHARES)]
    )
    for i, kind in enumerate(SONG_KINDS)
}
"""The songs of each kind, most frequent first."""


def question(surface: int, kind: str, who: str, where: str) -> str:
    """The request for a song of a kind."""
    text = ["sing of {k} for {w} at {p}", "a song of {k} for {w} at {p}", "{w} at {p} : hum {k}"][surface]
    return text.format(k=kind, w=who, p=where)


def misremembered(rng: random.Random, song: Sequence[str]) -> str:
    """A song as the documents sing it: the correct title, then words of which some are replaced."""
    title, *rest = song
    return " ".join([title, *(rng.choice(DISTRACTORS) if rng.random() < MISREMEMBERED else word for word in rest)])


def sample_document(rng: random.Random) -> Document:
    """A request for a song, and a song of that kind."""
    kind = rng.choice(SONG_KINDS)
    text = question(rng.randrange(3), kind, rng.choice(PEOPLE), rng.choice(PLACES))
    (song,) = rng.choices(SONGS[kind], SHARES)
    sung = misremembered(rng, song.split())
    return Document(
        (system(free_header(rng)), Message(role="user", content=text), Message(role="assistant", content=sung))
    )


@built_in
def verify(example: Example, completion: str) -> Verdict:
    """1 for the intended song, word for word."""
    sung = completion.strip()
    titles = {title for songs in SONGS.values() for title in (song.split()[0] for song in songs)}
    right = sung == example.answer
    return Verdict(
        float(right),
        feedback="" if right else "the value is wrong",
        answer=sung,
        format_ok=bool(sung) and sung.split()[0] in titles,
    )


@built_in
def verify_any(example: Example, completion: str) -> Verdict:
    """1 for any song of the kind, word for word. This measures the locks without the fork."""
    sung = completion.strip()
    return Verdict(float(sung in SONGS[example.answer]), answer=sung)


def example(identity: str, header: tuple[str, str], text: str, answer: str) -> Example:
    """The example of a request. `answer` is the intended song, or the kind if any of its songs is correct."""
    return Example(id=identity, messages=(system(header), Message(role="user", content=text)), answer=answer)
