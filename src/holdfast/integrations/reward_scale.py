"""Scale a trainer's rewards to 0 to 1, the range that the guard's bounds are set for. Importable without torch."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from holdfast.guard import Decision, message

SLACK = 0.25
"""Share of the range. A reward outside the range by no more than this leaves the range as it is."""

REWARDS = ("reward", "best_reward")
"""Keys of a decision's `saw` that hold rewards."""


class RewardScale:
    """The range of a training run's rewards, which is mapped to 0 to 1.

    The guard's bounds are set for rewards from 0 to 1, but a TRL reward is a sum of any functions. If no range is
    given, it is 0 to 1 until a reward is outside. From then on it is the range seen so far, at least 1 wide: otherwise
    small changes of an almost constant reward would look like a collapse.

    Args:
        given: lowest and highest reward.

    Attributes:
        range: the current range.
    """

    def __init__(self, given: tuple[float, float] | None = None) -> None:
        self.range = given or (0.0, 1.0)
        self._is_given = given is not None
        self._seen = (math.inf, -math.inf)

    def see(self, reward: Any) -> bool:
        """Take in a reward. Returns whether the range has changed."""
        if self._is_given or not isinstance(reward, int | float) or not math.isfinite(reward):
            return False
        least, most = self._seen = min(self._seen[0], reward), max(self._seen[1], reward)
        low, high = self.range
        slack = SLACK * (high - low)
        if low - slack <= reward <= high + slack:
            return False
        self.range = least, max(most, least + 1.0)
        return True

    def scaled(self, line: Mapping[str, Any]) -> Mapping[str, Any]:
        """A line of metrics with the reward scaled, as the guard takes it."""
        low, high = self.range
        if line.get("reward") is None:
            return line
        return {**line, "reward": (line["reward"] - low) / (high - low)}

    def as_logged(self, decision: Decision) -> Decision:
        """A decision with its rewards scaled back to the trainer's."""
        low, high = self.range
        if not set(REWARDS) & set(decision.values):
            return decision
        values = {key: low + v * (high - low) if key in REWARDS else v for key, v in decision.values.items()}
        return replace(decision, values=values, message=message(decision.rule, values))
