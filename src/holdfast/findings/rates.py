"""The choice of each arm's learning rate, by one rule, on worlds that no claim uses. Torch-free.

The rule: of the arm's rates, take the one with the highest mean over the tuning worlds of `RunRecord.overall`, the mean
of the tasks' final score and of the retention suites' final score. It weighs what was learned and what was kept
equally, as a user would. Among equal rates the lowest is taken.
"""

from collections.abc import Mapping, Sequence

from holdfast.findings.arm import ClaimArm
from holdfast.findings.record import RunRecord
from holdfast.measure.scores import mean


def choose(arm: ClaimArm, by_rate: Mapping[float, Sequence[RunRecord]]) -> float:
    """The rate of an arm.

    Args:
        by_rate: its records on the tuning worlds, for each of its rates.

    Raises:
        ValueError: a rate has no record.
    """
    if arm.rate is not None:
        return arm.rate
    scores = {}
    for rate in arm.rates:
        score = mean(overall for record in by_rate[rate] if (overall := record.overall()) is not None)
        if score is None:
            raise ValueError(f"{arm.label}: no score at the rate {rate:g}")
        scores[rate] = score
    best = max(scores.values())
    return min(rate for rate, score in scores.items() if score == best)


def at_edge(rate: float, rates: Sequence[float]) -> str:
    """In words whether a rate is the lowest or the highest of those tried, so that the best one may lie beyond; "" if
    it lies between others."""
    return "lowest tried" if rate <= min(rates) else "highest tried" if rate >= max(rates) else ""
