"""Do intervals cover what they should? A simulation for scores of one set, and for means over a few runs.

    python -m benchmarks.intervals          half a minute on one core; writes benchmarks/results/intervals.json

- `scores`: 95% intervals of the mean of n graded rewards, over distributions on [0, 1]. Before: the t interval, clipped
  to [0, 1]. After: `score_interval`.
- `runs`: 95% t intervals of the mean of 3 to 6 values, one per run. Skewed values cover too little. The noise is that
  of the imagined pair of `paired_difference`: half of the values' standard deviation, and as large.
- `equal`: what `paired_difference` says of differences that are equal on all seeds, and almost equal.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.measure.statistics import Difference, paired_difference, score_interval, t_interval

RESULTS = Path(__file__).parent / "results" / "intervals.json"
SAMPLES = 4000
ITEMS = (48, 96, 192, 640)
RUNS = (3, 4, 6, 10)

Draw = Callable[[np.random.Generator, tuple[int, int]], Any]


def atoms(*values: tuple[float, float]) -> tuple[Draw, float]:
    """A distribution of values with their probabilities, and its mean."""
    own, shares = zip(*values, strict=True)
    return lambda rng, size: rng.choice(own, p=shares, size=size), float(np.dot(own, shares))


def beta(a: float, b: float) -> tuple[Draw, float]:
    return lambda rng, size: rng.beta(a, b, size), a / (a + b)


def mostly_one(share: float) -> tuple[Draw, float]:
    """1 with a probability, otherwise uniform."""
    return lambda rng, size: np.where(rng.random(size) < share, 1.0, rng.random(size)), share + (1 - share) / 2


REWARDS = {
    "beta(9, .5), near 1": beta(9, 0.5),
    "beta(20, 1), near 1": beta(20, 1),
    "beta(.5, 9), near 0": beta(0.5, 9),
    "95% are 1, others uniform": mostly_one(0.95),
    "98% are 1, others uniform": mostly_one(0.98),
    "97% are 1, 2% .5, 1% 0": atoms((1, 0.97), (0.5, 0.02), (0, 0.01)),
    "97% are .9, 3% 0": atoms((0.9, 0.97), (0, 0.03)),
    "95% are 0, 3% .3, 2% 1": atoms((0, 0.95), (0.3, 0.03), (1, 0.02)),
    "40% 0, 20% .5, 40% 1": atoms((0, 0.4), (0.5, 0.2), (1, 0.4)),
    "beta(.3, .3)": beta(0.3, 0.3),
    "uniform": beta(1, 1),
    "beta(5, 5)": beta(5, 5),
}

VALUES: dict[str, tuple[Draw, float, float]] = {
    "normal": (lambda rng, size: rng.normal(0, 1, size), 0.0, 1.0),
    "exponential": (lambda rng, size: rng.exponential(1, size), 1.0, 1.0),
    "lognormal(0, 1)": (
        lambda rng, size: rng.lognormal(0, 1, size),
        math.exp(0.5),
        math.sqrt((math.e - 1) * math.e),
    ),
}
"""Distributions over runs, with mean and standard deviation."""


def plain(rewards: list[float]) -> tuple[float, float]:
    """The t interval of the rewards alone, clipped to [0, 1], as it was before."""
    low, high = t_interval(
        float(np.mean(rewards)), float(np.std(rewards, ddof=1)) / math.sqrt(len(rewards)), len(rewards)
    )
    return max(0.0, low), min(1.0, high)


def score_row(name: str, n: int, samples: int) -> dict[str, Any]:
    draw, truth = REWARDS[name]
    drawn = draw(np.random.default_rng([n, list(REWARDS).index(name)]), (samples, n)).tolist()
    found: dict[str, Any] = {"rewards": name, "items": n}
    for rule, interval in (("before", plain), ("after", score_interval)):
        both = [interval(rewards) for rewards in drawn]
        found[rule] = float(np.mean([low <= truth <= high for low, high in both]))
        found[f"width_{rule}"] = float(np.mean([high - low for low, high in both]))
    return found


def run_row(name: str, n: int, samples: int) -> dict[str, Any]:
    draw, truth, sd = VALUES[name]
    drawn = draw(np.random.default_rng([n, list(VALUES).index(name)]), (samples, n)).tolist()

    def coverage(noise: float | None) -> float:
        intervals = [paired_difference(values, [0.0] * n, noise).ci95 for values in drawn]
        return float(np.mean([ci is not None and ci[0] <= truth <= ci[1] for ci in intervals]))

    kinds = {"plain": None, "noise of half the sd": sd / 2, "noise of the sd": sd}
    return {"values": name, "runs": n} | {kind: coverage(noise) for kind, noise in kinds.items()}


def equal_rows() -> list[dict[str, Any]]:
    """Differences of −70 points that spread ever less, with the noise of 64 items."""
    rows = []
    for spread in (0.1, 0.01, 1e-4, 1e-8, 0.0):
        a = [0.2 - spread, 0.2, 0.2 + spread]
        before, after = (paired_difference(a, [0.9] * 3, noise) for noise in (None, math.hypot(0.05, 0.0375)))
        rows.append({"spread": spread, "before": _shown(before), "after": _shown(after)})
    return rows


def _shown(found: Difference) -> dict[str, Any]:
    return {"difference": found.difference, "ci95": found.ci95, "p": found.p}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="intervals per row")
    samples = parser.parse_args().samples
    result = {
        "samples": samples,
        "scores": [score_row(name, n, samples) for name in REWARDS for n in ITEMS],
        "runs": [run_row(name, n, samples) for name in VALUES for n in RUNS],
        "equal": equal_rows(),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    for part in ("scores", "runs", "equal"):
        for row in result[part]:  # type: ignore[attr-defined]
            print({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})


if __name__ == "__main__":
    main()
