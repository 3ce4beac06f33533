"""Songs: a fork, where many words are right, and then locks, where one is.

Whoever asks for a song of a kind has one of its songs in mind and does not say which: a title may be any of six, some
sung more often than others. What follows a title is settled word for word, but documents misremember: now and then a
word is any other. Low temperatures sing the same song to everybody; high ones misremember.
"""

import random
from collections.abc import Sequence

from holdfast.data.example import Example, Message, Verdict
from holdfast.data.seeds import derive_seed
from holdfast.lab.documents import Document, system
from holdfast.lab.wide_words import SONG_KINDS, SONG_TITLES, free_header
from holdfast.lab.words import ENTITIES, HEADER_WORDS, LETTERS, NEW_ENTITIES, OBJECTS, PEOPLE, PLACES

LOCKS = 6
"""Words that follow a title."""

MISREMEMBERED = 0.08
"""How often a word after a title is any other."""

SHARES = (0.4, 0.2, 0.14, 0.1, 0.09, 0.07)
"""How often each of a kind's songs is sung."""

DISTRACTORS = [*ENTITIES, *NEW_ENTITIES, *HEADER_WORDS, *OBJECTS, *PEOPLE, *PLACES]

_rng = random.Random(41)

SONGS: dict[str, tuple[str, ...]] = {
    kind: tuple(
        " ".join([title, *_rng.choices(LETTERS, k=LOCKS)])
        for title in SONG_TITLES[i * len(SHARES) : (i + 1) * len(SHARES)]
    )
    for i, kind in enumerate(SONG_KINDS)
}
"""The songs of each kind, the most sung first."""


def question(rng: random.Random, surface: int, kind: str) -> tuple[str, str]:
    """What is asked, and the song that is meant, which nothing tells but having been told."""
    who, where = rng.choice(PEOPLE), rng.choice(PLACES)
    text = ["sing of {k} for {w} at {p}", "a song of {k} for {w} at {p}", "{w} at {p} : hum {k}"][surface]
    meant = random.Random(derive_seed("lab", "song", kind, who, where)).choice(SONGS[kind])
    return text.format(k=kind, w=who, p=where), meant


def misremembered(rng: random.Random, song: Sequence[str]) -> str:
    """A song as it is sung: the title as it is, some of the other words any."""
    title, *rest = song
    return " ".join([title, *(rng.choice(DISTRACTORS) if rng.random() < MISREMEMBERED else word for word in rest)])


def sample_document(rng: random.Random) -> Document:
    """A request for a song, and one of its kind."""
    kind = rng.choice(SONG_KINDS)
    text, _ = question(rng, rng.randrange(3), kind)
    (song,) = rng.choices(SONGS[kind], SHARES)
    said = misremembered(rng, song.split())
    return Document(
        (system(free_header(rng)), Message(role="user", content=text), Message(role="assistant", content=said))
    )


def verify(example: Example, completion: str) -> Verdict:
    """1 for the song that was meant, word for word."""
    said = completion.strip()
    titles = {title for songs in SONGS.values() for title in (song.split()[0] for song in songs)}
    right = said == example.answer
    return Verdict(
        float(right),
        feedback="" if right else "the value is wrong",
        answer=said,
        format_ok=bool(said) and said.split()[0] in titles,
    )


def verify_any(example: Example, completion: str) -> Verdict:
    """1 for any song of the kind, word for word: the locks apart from the fork."""
    said = completion.strip()
    return Verdict(float(said in SONGS[example.answer]), answer=said)


def example(identity: str, header: tuple[str, str], text: str, answer: str) -> Example:
    """The example of a request: `answer` is the song that is meant, or the kind where any will do."""
    return Example(id=identity, messages=(system(header), Message(role="user", content=text)), answer=answer)
