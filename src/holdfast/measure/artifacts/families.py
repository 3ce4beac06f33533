"""N-grams that are parts of one another, grouped: a phrase of six words is one finding, not twenty."""

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.measure.artifacts.ngrams import Ngram

NEAR = 0.9
"""An n-gram that occurs at least so often as another one within it is taken for the same thing."""

LONGEST_PHRASE = 40

MOST = 1000
"""N-grams that are grouped; further ones are left out."""


@dataclass(frozen=True, slots=True)
class Family:
    """N-grams around one of them.

    Attributes:
        lead: index of the n-gram with the best evidence.
        phrase: the longest phrase around it that occurs nearly as often; put together from n-grams that overlap.
        members: indices of all n-grams that are part of the phrase, or hold a part of it that hardly occurs elsewhere.
    """

    lead: int
    phrase: Ngram
    members: tuple[int, ...]


def contains(longer: Ngram, shorter: Ngram) -> bool:
    """Whether an n-gram is a contiguous part of another."""
    n = len(shorter)
    return any(longer[i : i + n] == shorter for i in range(len(longer) - n + 1))


def families(ngrams: Sequence[Ngram], support: Sequence[float]) -> list[Family]:
    """Group n-grams that are given in the order of their evidence, best first.

    Args:
        support: how often each occurs.
    """
    left = list(range(min(len(ngrams), MOST)))
    found = []
    while left:
        lead = left[0]
        near = [ngrams[i] for i in left if support[i] >= NEAR * support[lead]]
        phrase = _phrase(ngrams[lead], near)
        parts = [i for i in left if contains(phrase, ngrams[i])]
        own = [ngrams[i] for i in parts if NEAR * support[i] <= support[lead]]
        members = tuple(i for i in left if i in set(parts) or any(contains(ngrams[i], part) for part in own))
        found.append(Family(lead, phrase, members))
        left = [i for i in left if i not in set(members)]
    return found


def _phrase(start: Ngram, others: Sequence[Ngram]) -> Ngram:
    """The longest phrase around an n-gram: first one that contains it, then overlapping ones at both ends."""
    phrase = max((g for g in others if contains(g, start)), key=len)
    used = {phrase}
    while len(phrase) < LONGEST_PHRASE:
        for ngram in others:
            overlap = len(ngram) - 1
            # Two shared units at least: one, such as "the", would join what does not belong together.
            if ngram in used or not 2 <= overlap <= len(phrase):
                continue
            if phrase[-overlap:] == ngram[:-1]:
                phrase = (*phrase, ngram[-1])
            elif phrase[:overlap] == ngram[1:]:
                phrase = (ngram[0], *phrase)
            else:
                continue
            used.add(ngram)
            break
        else:
            break
    return phrase
