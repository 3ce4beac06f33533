"""How far answers moved, in numbers. Imports without torch; `holdfast.evaluate.divergences` runs the models."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit
from scipy.stats import spearmanr

from holdfast.measure.answers import Answer
from holdfast.measure.artifacts.ngrams import Unit, units_of_text
from holdfast.measure.statistics import LEVEL, Interval, mean_interval, paired_difference, wilson_interval


def edit_distance(a: Sequence[Unit], b: Sequence[Unit]) -> int:
    """Levenshtein distance: the smallest number of insertions, deletions and replacements of units that turn a into b.

    Bit-parallel (Myers, JACM 46, 1999, as simplified by Hyyrö 2003): two integers of len(a) bits represent a column of
    the distance table. Their bits mark the rows at which the distance rises and falls.
    """
    if not a or not b:
        return len(a) + len(b)
    places: dict[Unit, int] = {}
    for index, unit in enumerate(a):
        places[unit] = places.get(unit, 0) | 1 << index
    every, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    rises, falls, distance = every, 0, len(a)
    for unit in b:
        equal = places.get(unit, 0)
        diagonal = (((equal & rises) + rises) ^ rises) | equal | falls
        right_rises, right_falls = falls | (every & ~(diagonal | rises)), rises & diagonal
        distance += bool(right_rises & last) - bool(right_falls & last)
        right_rises, right_falls = (right_rises << 1 | 1) & every, (right_falls << 1) & every
        rises, falls = right_falls | (every & ~(diagonal | right_rises)), right_rises & diagonal
    return distance


def normalized_edit(a: Sequence[Unit], b: Sequence[Unit]) -> float:
    """Edit distance divided by the longer length: 0 for equal answers, 1 for answers with nothing in common."""
    return edit_distance(a, b) / max(1, len(a), len(b))


@dataclass(frozen=True, slots=True)
class PerToken:
    """A mean per token over sampled answers.

    Attributes:
        mean: the sum over all answers, divided by the number of all tokens.
        se: standard error of `mean` over prompts, by the delta method for a ratio; None with one prompt.
        per_answer: mean over answers of the sum over an answer.
    """

    mean: float
    se: float | None
    per_answer: float
    prompts: int

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in PerToken.__slots__}


def per_token(sums: Mapping[str, Sequence[float]], tokens: Mapping[str, Sequence[int]]) -> PerToken:
    """Mean per token, with the prompt as the unit of evidence.

    Args:
        sums: by prompt, the sum over the tokens of each answer.
        tokens: by prompt, the number of tokens of each answer.
    """
    totals, counts = [math.fsum(sums[p]) for p in sums], [sum(tokens[p]) for p in sums]
    answers = sum(len(values) for values in sums.values())
    mean = math.fsum(totals) / sum(counts)
    n = len(totals)
    se = None
    if n > 1:
        squares = math.fsum((total - mean * count) ** 2 for total, count in zip(totals, counts, strict=True))
        se = math.sqrt(squares * n / (n - 1)) / sum(counts)
    return PerToken(mean, se, math.fsum(totals) / answers, n)


def distinct(answers: Sequence[Sequence[Unit]], n: int) -> float:
    """Distinct n-grams divided by all n-grams of a set of answers (Li et al., arXiv 1510.03055); 0 without n-grams."""
    ngrams = [tuple(answer[i : i + n]) for answer in answers for i in range(len(answer) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def compare_greedy(a: Sequence[Answer], b: Sequence[Answer]) -> dict[str, Any]:
    """Compare two models' greedy answers to the same prompts, in the same order, word by word.

    Distinct-n decreases with the number of words. So both answers to a prompt are cut to the length of the shorter one.

    Returns:
        Numbers over prompts: `agreement`, the share of equal texts with Wilson's interval; `edit`, the normalized edit
        distance with its t interval; `length`, the number of words, paired; `distinct`, by n. `per_prompt` has the edit
        distances.
    """
    units_a, units_b = [units_of_text(x.text) for x in a], [units_of_text(x.text) for x in b]
    pairs = list(zip(units_a, units_b, strict=True))
    same = sum(x.text == y.text for x, y in zip(a, b, strict=True)) / len(a)
    edits = [normalized_edit(x, y) for x, y in pairs]
    lengths_a, lengths_b = [float(len(x)) for x in units_a], [float(len(x)) for x in units_b]
    cut = [(x[: len(y)], y[: len(x)]) for x, y in pairs]
    return {
        "agreement": {"mean": same, "ci95": list(wilson_interval(same, len(a)))},
        "edit": mean_interval(edits).as_json(),
        "length": {
            "a": math.fsum(lengths_a) / len(a),
            "b": math.fsum(lengths_b) / len(a),
            **paired_difference(lengths_b, lengths_a).as_json(),
        },
        "distinct": {
            str(n): {"a": distinct([x for x, _ in cut], n), "b": distinct([y for _, y in cut], n)} for n in (1, 2, 3)
        },
        "per_prompt": edits,
    }


@dataclass(frozen=True, slots=True)
class Fit:
    """Forgetting as a straight line in KL to the base, over runs.

    Attributes:
        slope, slope_ci95: forgetting per nat, and its 95% t interval.
        intercept: forgetting at a KL of 0.
        r2: share of the variance that the line explains.
        r2_quadratic: the same for a parabola, the form fitted in arXiv 2509.04259; None below four runs.
        p: two-sided p of the slope.
        spearman, spearman_p: rank correlation, which detects any monotone relation.
        n: number of runs.
    """

    slope: float
    slope_ci95: Interval
    intercept: float
    r2: float
    r2_quadratic: float | None
    p: float
    spearman: float
    spearman_p: float
    n: int
    mean_kl: float
    spread_kl: float
    residual_sd: float

    def predict(self, kl: float) -> tuple[float, Interval]:
        """Expected forgetting at a KL, and the 95% interval of this expectation."""
        value = self.intercept + self.slope * kl
        error = self.residual_sd * math.sqrt(1 / self.n + (kl - self.mean_kl) ** 2 / self.spread_kl)
        half = float(stdtrit(self.n - 2, 0.5 + LEVEL / 2)) * error
        return value, (value - half, value + half)

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in Fit.__slots__}


def fit_forgetting(kl: Sequence[float], forgetting: Sequence[float]) -> Fit:
    """Least squares of forgetting over KL to the base on the new tasks' prompts.

    Each run is one observation. Stages of one run are not independent; counting each would make the interval too
    narrow.

    Raises:
        ValueError: there are fewer than three runs, or all have the same KL.
    """
    x, y = np.asarray(kl, dtype=float), np.asarray(forgetting, dtype=float)
    n = len(x)
    if len(y) != n or n < 3 or np.ptp(x) == 0:
        raise ValueError("a fit needs at least three runs with different KL")
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    intercept = float(y.mean()) - slope * float(x.mean())
    rest, total = float(((y - intercept - slope * x) ** 2).sum()), float(((y - y.mean()) ** 2).sum())
    sd = math.sqrt(rest / (n - 2))
    error = sd / math.sqrt(spread)
    half = float(stdtrit(n - 2, 0.5 + LEVEL / 2)) * error
    quadratic = None
    if n > 3 and len(set(x.tolist())) > 2:
        parabola = np.polynomial.Polynomial.fit(x, y, 2)
        quadratic = _r2(float(((y - parabola(x)) ** 2).sum()), total)
    ranks = spearmanr(x, y) if np.ptp(y) > 0 else None
    return Fit(
        slope=slope,
        slope_ci95=(slope - half, slope + half),
        intercept=intercept,
        r2=_r2(rest, total),
        r2_quadratic=quadratic,
        p=2 * float(stdtr(n - 2, -abs(slope) / error)) if error > 0 else float(slope == 0),
        spearman=float(ranks.statistic) if ranks else 0.0,
        spearman_p=float(ranks.pvalue) if ranks else 1.0,
        n=n,
        mean_kl=float(x.mean()),
        spread_kl=spread,
        residual_sd=sd,
    )


def _r2(rest: float, total: float) -> float:
    return 1 - rest / total if total > 0 else 0.0
