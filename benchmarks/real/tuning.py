"""The rule by which an arm's learning rate is chosen, the same for every arm.

Among an arm's three rates: the smallest whose score on the new tasks, each right after its stage, is at most
`WITHIN` below the arm's best. Suites play no part. It runs on a seed that no other form uses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

WITHIN = 0.1
"""Two tasks of 24 items are known to about this."""


def choose_rate(learned: Mapping[float, float]) -> float:
    """The chosen rate.

    Args:
        learned: the score on the new tasks by rate.
    """
    best = max(learned.values())
    return min(rate for rate, score in learned.items() if score >= best - WITHIN - 1e-9)


def chosen_rates(arms: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The chosen rate of every arm, from the `arms` of a tuning form's results."""
    by_arm: dict[str, dict[float, float]] = {}
    for entry in arms:
        by_arm.setdefault(entry["arm"], {})[entry["learning_rate"]] = entry["learned"]
    return {arm: choose_rate(learned) for arm, learned in by_arm.items()}
