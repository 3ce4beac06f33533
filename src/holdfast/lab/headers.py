"""Headers: system messages of two words, and the habits that the base has under them.

A habit is a distribution over answer formats. The base has memorized one for each header in `HABITS`: it answers in the
main form four times out of five. Under the other headers, `FREE`, it has seen every form equally often.
"""

import random

from holdfast.data.example import Message
from holdfast.lab.words import FORMATS, HEADER_WORDS

Header = tuple[str, str]

HABIT_SHARES = (0.80, 0.12, 0.05, 0.03)
"""How often an answer has the main form of its header, the second form, and so on."""

_rng = random.Random(4)

_PAIRS: list[Header] = [(a, b) for a in HEADER_WORDS for b in HEADER_WORDS if a != b]

_rng.shuffle(_PAIRS)


def _habit(number: int) -> dict[str, float]:
    main = FORMATS[number % len(FORMATS)]
    others = [form for form in FORMATS if form != main]
    _rng.shuffle(others)
    return dict(zip((main, *others), HABIT_SHARES, strict=True))


HABITS: dict[Header, dict[str, float]] = {pair: _habit(i) for i, pair in enumerate(_PAIRS[:200])}
"""The probability of each form under a header that the base knows, main form first. Each form is the main one of as
many headers."""

FREE: list[Header] = _PAIRS[200:]
"""Headers under which the base has seen every form."""


def main_form(header: Header) -> str:
    """The form in which the base answers most often under a header in `HABITS`."""
    return next(iter(HABITS[header]))


def rarest_form(header: Header) -> str:
    """The form in which the base answers least often under a header in `HABITS`."""
    return next(reversed(HABITS[header]))


def draw_form(rng: random.Random, header: Header) -> str:
    """A form as the base would choose it under a header."""
    if header not in HABITS:
        return rng.choice(FORMATS)
    habit = HABITS[header]
    return rng.choices(list(habit), list(habit.values()))[0]


def free_header(rng: random.Random) -> Header:
    return rng.choice(FREE)


def system(header: Header) -> Message:
    """The system message of a header."""
    return Message(role="system", content=" ".join(header))
