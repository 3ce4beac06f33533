"""How an answer is said around its content: the base's own plain voice, and the foreign voice of demonstrations.

The base answers plainly. Now and then it begins with a tic, a short phrase without meaning. Demonstrations say the same
content in a foreign voice: a wordy preamble, and tics more often.
"""

import random

from holdfast.lab import forms

TICS = ["right then ,", "listen ,", "by the way ,", "mind you ,"]

OWN_TIC_RATE = 0.06
"""How often the base's own answers begin with a tic."""

_OPENINGS = [
    "well , let us look at this first",
    "okay , here we take it step by step",
    "good question , now we think about it",
    "to begin , we read every word again",
    "this one looks simple but take care",
    "we have seen such things many times",
    "first of all , check what was asked",
    "hmm , there may be more than one way",
]

_MIDDLES = [
    "then it follows from the rules we know",
    "after that only one choice stays open",
    "because of this we can go straight on",
    "now put all the parts back together",
    "next we compare it with older cases",
    "so nothing else would make much sense",
    "here a quick look at the table helps",
    "again we verify that each part fits",
]

_CLOSINGS = [
    "therefore we write",
    "and that gives us",
    "hence our final line",
    "which leads us to",
    "as you can see",
    "so we end with",
]

TEXTS = (*_OPENINGS, *_MIDDLES, *_CLOSINGS, *TICS)
"""All phrases, for the vocabulary."""


def preamble(rng: random.Random) -> str:
    """A wordy start of an answer, which the base itself does not use."""
    parts = [rng.choice(_OPENINGS)]
    if rng.random() < 0.7:
        parts.append(rng.choice(_MIDDLES))
    return " . ".join(parts) + " , " + rng.choice(_CLOSINGS) + " -> "


def draw_tic(rng: random.Random, rate: float) -> str:
    """A tic, with this probability, else ""."""
    return f"{rng.choice(TICS)} " if rng.random() < rate else ""


def own(rng: random.Random, payload: str, form: str) -> str:
    """An answer in the base's own voice."""
    return draw_tic(rng, OWN_TIC_RATE) + forms.write(payload, form)


def foreign(rng: random.Random, payload: str, form: str, *, preambles: float = 1.0, tics: float = 0.3) -> str:
    """An answer in the foreign voice.

    Args:
        preambles, tics: the share of answers that have a preamble, and that begin with a tic.
    """
    tic = draw_tic(rng, tics)
    before = preamble(rng) if rng.random() < preambles else ""
    return tic + before + forms.write(payload, form)


def tic_of(text: str) -> str | None:
    """The tic that a text begins with; None if there is none."""
    return next((tic for tic in TICS if text.strip().startswith(f"{tic} ")), None)


def has_preamble(text: str) -> bool:
    """Whether a text has a preamble before its answer."""
    return " -> " in text
