"""The choice of each arm's learning rate, by one rule, on worlds that no claim uses. Torch-free.

The rule: of the arm's rates, take the one with the highest mean over the tuning worlds of `RunRecord.overall`, the mean
of the tasks' final score and of the retention suites' final score. It weighs what was learned and what was kept
equally, as a user would. On streams whose claims are about learning alone, the tasks' final score is taken instead:
where hardly anything is learned, keeping would decide, and the lowest rate would win. Among equal rates the lowest is
taken.
"""

from collections.abc import Mapping, Sequence

from holdfast.findings.arm import ClaimArm
from holdfast.findings.record import RunRecord
from holdfast.measure.scores import mean

CHOSEN: Mapping[str, float] = {
    "sft": 1e-4,
    "sft-own-voice": 2e-4,
    "rewrite-sft": 2e-4,
    "sdft": 4e-4,
    "grpo": 1e-4,
    "sft@sequence": 1e-4,
    "sdft@sequence": 2e-4,
    "sdpo@tools": 2e-4,
    "grpo@tools": 2e-4,
}
"""What the rule chose for the arms of the quick form, by label. It saves the quick form the tuning runs."""


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
        known = (record.final() if arm.stream.for_learning else record.overall() for record in by_rate[rate])
        score = mean(each for each in known if each is not None)
        if score is None:
            raise ValueError(f"{arm.label}: no score at the rate {rate:g}")
        scores[rate] = score
    best = max(scores.values())
    return min(rate for rate, score in scores.items() if score == best)


def at_edge(rate: float, rates: Sequence[float]) -> str:
    """In words whether a rate is the lowest or the highest of those tried, so that the best one may lie beyond; "" if
    it lies between others."""
    return "lowest tried" if rate <= min(rates) else "highest tried" if rate >= max(rates) else ""
