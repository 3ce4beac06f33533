"""Conventions: the answer formats, and which header asks for which format.

A header is a system message of two words. There are three kinds. The base has memorized the convention of some headers
(`MEMORIZED`). It has seen others with every convention (`FREE`). It has never seen the rest; a stream ties a convention
to each of them (`FRESH`).
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
"""Headers whose convention the base has memorized."""

FRESH: list[Header] = _PAIRS[120:220]
"""Headers reserved for streams. No pretraining document has one."""

FREE: list[Header] = _PAIRS[220:]
"""Headers that the base has seen with every convention."""


def write(payload: str, convention: str) -> str:
    """An answer in a convention."""
    before, after = _TEMPLATES[convention]
    return f"{before}{payload}{after}"


def read(text: str, convention: str) -> str | None:
    """The payload of the last answer in a convention; None if there is none."""
    payloads = _PATTERNS[convention].findall(text.strip())
    return payloads[-1].strip() if payloads else None


def read_any(text: str) -> tuple[str | None, str | None]:
    """(payload, convention) of the first convention in which the text has an answer, or (None, None)."""
    for convention in FORMATS:
        payload = read(text, convention)
        if payload is not None:
            return payload, convention
    return None, None


def is_exactly(text: str, convention: str) -> bool:
    """Whether a text is exactly one answer in a convention."""
    payload = read(text, convention)
    return payload is not None and text.strip() == write(payload, convention)
