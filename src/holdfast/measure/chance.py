"""Chance: what a model without a skill scores, whether a score is above that, and answers that are all the same.

A set on which a model does not score above chance has nothing to lose. It says nothing about forgetting, and would only
dilute a mean over sets.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.special import betainc

from holdfast.measure.statistics import LEVEL

LUCK = 0.01
"""The least chance level. Where nothing is known, one answer in a hundred may be right by luck or by a verifier's
mistake."""

FEWEST = 6
"""An answer must be right for this many items to set the chance level. With fewer, each answer may be right only once,
and be no option. Losing 6 items and gaining none is also the smallest loss that the exact test shows (p = .03)."""

NEARLY_ALL = 0.9
"""Share of answers from which they are said to be all the same."""


def is_above_chance(score: float, n: int, chance: float) -> bool:
    """Whether a score over n items is significantly above chance: the exact binomial test, one-sided, at 5%.

    Args:
        score: the mean, in [0, 1]. If scores are graded, the binomial tail is taken at a number of successes that may
            have a fraction. Graded scores scatter less than scores of 0 and 1 with the same mean.
        n: items.
        chance: the mean that a model without the skill has. `LUCK` is the least that is assumed.
    """
    right = score * n
    return right > 0 and float(betainc(right, n - right + 1, max(chance, LUCK))) < 1 - LEVEL


def constant_answer_score(accepted: Sequence[Collection[str]]) -> float:
    """The score of a model that gives every item the same answer, the best one: the majority-class rate.

    Args:
        accepted: by item, the answers that are right.

    Returns:
        0 if no answer is right for `FEWEST` items, or if there is only one answer: then it is no option among several.
    """
    right_for = Counter(answer for answers in accepted for answer in set(answers))
    most = max(right_for.values(), default=0)
    if most < FEWEST or all(set(answers) == set(accepted[0]) for answers in accepted):
        return 0.0
    return most / len(accepted)


@dataclass(frozen=True, slots=True)
class MostFrequent:
    """The most frequent one of a model's answers.

    Attributes:
        answer: its text, cut to 80 characters.
        count: how often it was given.
    """

    answer: str
    count: int

    def as_json(self) -> dict[str, Any]:
        return {"answer": self.answer, "count": self.count}


def most_frequent(answers: Sequence[str]) -> MostFrequent | None:
    """The most frequent answer, the first of equally frequent ones. Differences in spacing do not count.

    None without answers.
    """
    if not answers:
        return None
    ((answer, count),) = Counter(" ".join(answer.split()) for answer in answers).most_common(1)
    return MostFrequent(answer[:80], count)


def are_nearly_all_the_same(count: int, n: int, score: float | None) -> bool:
    """Whether a model answers a set nearly always in the same way, although that is mostly wrong or nobody judges it.

    Args:
        count: of its most frequent answer.
        n: answers. With fewer than `FEWEST`, equal ones may be chance.
        score: mean score of the answers; None if nothing judges them.
    """
    return n >= FEWEST and count >= NEARLY_ALL * n and (score is None or score < NEARLY_ALL)
