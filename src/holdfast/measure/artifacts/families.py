"""Groups n-grams that are parts of one another: a phrase of six words is one result, not twenty."""

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.measure.artifacts.ngrams import Ngram

NEAR = 0.9
"""An n-gram counts as the same phrase as its part if it occurs at least this share as often."""

LONGEST_PHRASE = 40

MOST = 1000
"""Number of n-grams that are grouped. Further ones are left out."""


@dataclass(frozen=True, slots=True)
class Family:
    """One phrase: n-grams that are parts of one another.

    Attributes:
        lead: index of the n-gram with the best evidence.
        phrase: the longest phrase around it that occurs nearly as often, joined from n-grams that overlap.
        members: indices of all n-grams that are part of the phrase, or contain a part that rarely occurs elsewhere.
    """

    lead: int
    phrase: Ngram
    members: tuple[int, ...]


def contains(longer: Ngram, shorter: Ngram) -> bool:
    """Whether an n-gram is a contiguous part of another."""
    n = len(shorter)
    return any(longer[i : i + n] == shorter for i in range(len(longer) - n + 1))


def families(ngrams: Sequence[Ngram], support: Sequence[float]) -> list[Family]:
    """Group n-grams. They are given in the order of their evidence, strongest first.

    Args:
        support: how often each occurs.
    """
    left = list(range(min(len(ngrams), MOST)))
    groups = []
    while left:
        lead = left[0]
        near = [ngrams[i] for i in left if support[i] >= NEAR * support[lead]]
        phrase = _phrase(ngrams[lead], near)
        parts = [i for i in left if contains(phrase, ngrams[i])]
        own = [ngrams[i] for i in parts if NEAR * support[i] <= support[lead]]
        members = tuple(i for i in left if i in set(parts) or any(contains(ngrams[i], part) for part in own))
        groups.append(Family(lead, phrase, members))
        left = [i for i in left if i not in set(members)]
    return groups


def _phrase(start: Ngram, others: Sequence[Ngram]) -> Ngram:
    """The longest phrase around an n-gram: start with one that contains it, then add overlapping ones at both ends."""
    phrase = max((g for g in others if contains(g, start)), key=len)
    used = {phrase}
    while len(phrase) < LONGEST_PHRASE:
        for ngram in others:
            overlap = len(ngram) - 1
            # At least two shared units: a single one, such as "the", would join unrelated phrases.
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
