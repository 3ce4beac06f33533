"""Which words of a text are new: how samples and moved answers are marked."""

import difflib
import re
from dataclasses import dataclass

LARGEST = 4_000_000
"""Product of the two texts' pieces above which they are shown without marks, because the comparison is quadratic."""


@dataclass(frozen=True)
class Word:
    """A piece of a text; `new` if the other text does not have it at this place."""

    text: str
    new: bool


def pieces_of(text: str) -> list[str]:
    """Words and the whitespace between them; joined they give the text."""
    return re.findall(r"\S+|\s+", text)


def new_words(before: list[str] | None, now: list[str]) -> tuple[tuple[Word, ...], str]:
    """The pieces of `now` with what is new since `before` marked, and one word for the change.

    The change is "" for the first text, else "unchanged", "changed" or "rewritten".
    """
    plain = (Word("".join(now), False),)
    if before is None:
        return plain, ""
    if before == now:
        return plain, "unchanged"
    if len(before) * len(now) > LARGEST:
        return plain, "changed"
    matcher = difflib.SequenceMatcher(None, before, now, autojunk=False)
    if matcher.ratio() < 0.4:  # most of the text is new, so marks would only be noise
        return plain, "rewritten"
    words = [
        Word("".join(now[start:end]), tag != "equal") for tag, _, _, start, end in matcher.get_opcodes() if end > start
    ]
    return tuple(words), "changed"


def differing_words(first: str, second: str) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
    """Two texts in pieces; words that only one of them has are marked in that one."""
    a, b = pieces_of(first), pieces_of(second)
    if len(a) * len(b) > LARGEST:
        return (Word(first, False),), (Word(second, False),)
    left: list[Word] = []
    right: list[Word] = []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        new = tag != "equal"
        left += [Word("".join(a[i:j]), new)] if j > i else []
        right += [Word("".join(b[k:m]), new)] if m > k else []
    return tuple(left), tuple(right)
