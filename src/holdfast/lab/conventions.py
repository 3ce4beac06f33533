"""Conventions: how an answer is written, and which header asks for which.

A header is a system message of two words. The base has memorized the convention of some headers; others it has
seen with any convention (`FREE`); the rest it has never seen, and the streams tie a convention to them (`FRESH`).
"""

import random
import re

from holdfast.lab.words import FORMATS, HEADER_WORDS

_TEMPLATES = {
    "label": ("answer : ", ""),
    "brackets": ("[ ", " ]"),
    "braces": ("{ out = ", " }"),
    "sentence": ("so the result is ", " ."),
}

_PATTERNS = {
    "label": re.compile(r"answer : (.+)$"),
    "brackets": re.compile(r"\[ ([^\[\]]+) \]"),
    "braces": re.compile(r"\{ out = ([^{}]+) \}"),
    "sentence": re.compile(r"so the result is ([^.]+) \."),
}

Header = tuple[str, str]

_rng = random.Random(4)

_PAIRS: list[Header] = [(a, b) for a in HEADER_WORDS for b in HEADER_WORDS if a != b]

_rng.shuffle(_PAIRS)

MEMORIZED: dict[Header, str] = {pair: FORMATS[i % len(FORMATS)] for i, pair in enumerate(_PAIRS[:120])}
"""Headers whose convention the base knows by heart."""

FRESH: list[Header] = _PAIRS[120:220]
"""Headers kept for streams: no document of the base's training has one."""

FREE: list[Header] = _PAIRS[220:]
"""Headers that the base has seen with any convention."""


def write(payload: str, convention: str) -> str:
    """An answer in a convention's form."""
    before, after = _TEMPLATES[convention]
    return f"{before}{payload}{after}"


def read(text: str, convention: str) -> str | None:
    """The payload of the last answer written in a convention, or None where there is none."""
    found = _PATTERNS[convention].findall(text.strip())
    return found[-1].strip() if found else None


def read_any(text: str) -> tuple[str | None, str | None]:
    """(payload, convention) of the first convention that an answer is written in, or (None, None)."""
    for convention in FORMATS:
        payload = read(text, convention)
        if payload is not None:
            return payload, convention
    return None, None


def is_exactly(text: str, convention: str) -> bool:
    """Whether a text is one answer in a convention and nothing else."""
    payload = read(text, convention)
    return payload is not None and text.strip() == write(payload, convention)
