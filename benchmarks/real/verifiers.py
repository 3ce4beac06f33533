"""Verifiers: the answer stands in the completion as a word. Case does not count."""

import re
from collections.abc import Sequence

from holdfast.data.example import Example, Verdict


def says_answer(example: Example, completion: str) -> Verdict:
    """Reward 1 if one of the accepted answers stands in the completion."""
    accepted = [example.answer] if isinstance(example.answer, str) else example.answer
    said = named(accepted, completion)
    return Verdict(float(bool(said)), answer=said[0] if said else None)


def names_one_option(example: Example, completion: str) -> Verdict:
    """Reward 1 if exactly one of the example's options stands in the completion, and it is the answer."""
    said = named(example.metadata["options"], completion)
    return Verdict(float(said == [example.answer]), answer=", ".join(said) or None)


def named(words: Sequence[str], text: str) -> list[str]:
    """Those of the words, or groups of words, that stand in the text."""
    return [word for word in words if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)]
