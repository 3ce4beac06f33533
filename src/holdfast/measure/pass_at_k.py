"""pass@k and avg@k of a set, from several judged samples of each item."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.measure.scores import Json
from holdfast.measure.statistics import score_interval

ItemSamples = Mapping[str, Any]
"""An item's samples: how many there are (`n`), how many of them have the full reward (`correct`), and their mean
`reward`."""


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Probability that at least one of k samples is right: 1 − C(n − c, k) / C(n, k).

    It is the unbiased estimator of Chen et al. 2021 (arXiv 2107.03374, equation 1). The plain 1 − (1 − c/n)^k is
    biased.

    Args:
        n: samples.
        correct: how many of them are right (c).
        k: from 1 to n.
    """
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def sampled_numbers(items: Sequence[ItemSamples], ks: Sequence[int], temperature: float) -> Json:
    """A set's `sampled` block: avg@k over all samples, and pass@k for each k, with 95% intervals over items."""
    rewards = [item["reward"] for item in items]
    passed = {k: [pass_at_k(item["n"], item["correct"], k) for item in items] for k in sorted(ks)}
    return {
        "num_samples": items[0]["n"],
        "temperature": temperature,
        "avg_at_k": math.fsum(rewards) / len(rewards),
        "avg_at_k_ci95": list(score_interval(rewards)),
        "pass_at_k": [
            {"k": k, "mean": math.fsum(values) / len(values), "ci95": list(score_interval(values))}
            for k, values in passed.items()
        ],
    }
