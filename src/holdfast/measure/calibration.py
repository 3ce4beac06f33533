"""Calibration: whether a model's probability of its own answer says how often the answer is right.

An answer's confidence is the probability of the whole greedy answer, exp(Σ log p) over its tokens at temperature 1.
There are other ways to write the same answer, so even a model that is always right may have a low confidence. What says
something is the change between two evaluations of the same items, and the comparison of models with one way of writing.

The expected calibration error (ECE) is Σ_b n_b/n · |share of right answers − mean confidence|, over bins b with equal
numbers of items (Nguyen & O'Connor, EMNLP 2015, "Posterior calibration"; Nixon et al., arXiv 1904.01685, call it
adaptive). Bins of equal mass have no empty bins, and a lower bias than bins of equal width (Roelofs et al., arXiv
2012.08668).

The estimate is biased upwards: the absolute difference in a bin of few items is above 0 by chance alone. So the ECE is
given next to the value expected of a perfectly calibrated model with the same confidences. An ECE near that value shows
no miscalibration.
"""

from collections.abc import Sequence

import numpy as np

from holdfast.measure.item_tests import Floats
from holdfast.measure.scores import Json

BINS = 15
"""Bins of equal mass; fewer if there are fewer items."""


def calibration(confidence: Sequence[float], right: Sequence[bool]) -> Json:
    """Calibration of a set's answers.

    Args:
        confidence: in [0, 1], one for each item. There is at least one.
        right: whether the item was answered right.

    Returns:
        `ece`; `ece_if_calibrated`, its expectation if each answer were right with the probability of its confidence;
        `confidence`, the mean; `n`, the number of items.
    """
    order = np.argsort(confidence, kind="stable")
    sure, hits = np.asarray(confidence, dtype=float)[order], np.asarray(right, dtype=float)[order]
    hits = _shared_among_ties(sure, hits)
    bins = np.array_split(np.arange(len(sure)), min(BINS, len(sure)))
    return {
        "ece": float(sum(abs(hits[b].sum() - sure[b].sum()) for b in bins)) / len(sure),
        "ece_if_calibrated": sum(_expected_distance(sure[b]) for b in bins) / len(sure),
        "confidence": float(sure.mean()),
        "n": len(sure),
    }


def _shared_among_ties(sure: Floats, hits: Floats) -> Floats:
    """The share of right answers among the items of the same confidence, for each item.

    A border between two bins may separate items of the same confidence. Then the order of the items would matter.
    """
    _, group = np.unique(sure, return_inverse=True)
    return (np.bincount(group, hits) / np.bincount(group))[group]


def _expected_distance(chances: Floats) -> float:
    """E|X − E X| of the number X of successes in independent trials with these chances, exactly."""
    distribution = np.ones(1)
    for chance in chances:
        distribution = np.convolve(distribution, (1 - chance, chance))
    return float(distribution @ np.abs(np.arange(len(distribution)) - chances.sum()))
