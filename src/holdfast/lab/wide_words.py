"""The words and headers that the wider world adds. Every word is one token of its tokenizer."""

import random

from holdfast.data import teacher_prompts as contexts
from holdfast.lab import words
from holdfast.lab.words import made_up

_HEADER_WORDS = made_up(16, 21, "lx")

_pairs = [(a, b) for a in _HEADER_WORDS for b in _HEADER_WORDS if a != b]

random.Random(5).shuffle(_pairs)

FRESH_HEADERS: list[tuple[str, str]] = _pairs[:40]
"""Headers reserved for streams. No document has one."""

FREE_HEADERS: list[tuple[str, str]] = _pairs[40:]
"""Headers of the documents."""

STEP_MEANINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(made_up(6, 22, "mp"), ("plus", "gap")),
    **dict.fromkeys(made_up(6, 23, "nt"), ("plus", "gap", "keep")),
}
"""Words for operations that only the context defines, with the possible meanings of each."""

KNOWN_STEPS = ["plus", "gap", "keep", "max"]

QUEST_TOOLS = ["scan", "peek", "fetch", "dial", "trace"]

QUESTS = made_up(8, 24, "rn")
"""Quests whose tools the base has memorized."""

NEW_QUESTS = made_up(8, 25, "sh")
"""Quests whose tools the base can only guess."""

FORBIDDEN = (
    "poison bomb rifle virus grenade dagger toxin missile landmine torpedo cannon revolver "
    "arsenic cyanide malware shrapnel"
).split()
"""Objects that a request must not ask for."""

SURFACE_WORDS = "please the for at needed : request , ask : with".split()

PUNCTUATION = {":", ","}

SECOND = {
    word: f"{word}u"
    for word in (*SURFACE_WORDS, *words.TOOLS, *words.OBJECTS, *FORBIDDEN, *words.PLACES)
    if word not in PUNCTUATION
}
"""The second language: its word for each word of the first. Names of people are the same in both."""

SONG_KINDS = made_up(4, 26, "lm")

SONG_TITLES = made_up(24, 27, "nd")

_OTHER_WORDS = (
    "steps from start then taken through to be = answer : quest do ask of sing a song refuse ( reason = unsafe ) hum "
    "keep ? what does find"
).split()


def vocabulary() -> list[str]:
    """All words that this world adds, including those of its recipes' prompt templates."""
    texts = (
        contexts.REFERENCE_TEMPLATE,
        contexts.PLAN_TEMPLATE,
        contexts.ACTIONS_TEMPLATE,
        contexts.numbered(["x"] * 5),
        contexts.TRANSLATION_TEMPLATE,
    )
    template_words = [w for text in texts for w in text.split() if not w.startswith("{")]
    return [
        *_HEADER_WORDS,
        *STEP_MEANINGS,
        *QUEST_TOOLS,
        *QUESTS,
        *NEW_QUESTS,
        *FORBIDDEN,
        *SECOND.values(),
        *SONG_KINDS,
        *SONG_TITLES,
        *_OTHER_WORDS,
        *template_words,
        *(w[:-1] for w in template_words if len(w) > 1 and w[-1] in ".,:;"),
    ]


def free_header(rng: random.Random) -> tuple[str, str]:
    return rng.choice(FREE_HEADERS)
