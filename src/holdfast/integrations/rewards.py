"""Rewards of other people's trainers, on the scale that the guard's bounds are set on. Importable without torch."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from holdfast.guard import Decision, message

SLACK = 0.25
"""Of the range: a reward that is no further beyond its ends leaves the scale as it is."""

REWARDS = ("reward", "best_reward")
"""What a decision calls the rewards that it was taken on."""


class RewardScale:
    """The range of the rewards, which stands for 0 to 1.

    The guard's bounds are set for rewards from 0 to 1; TRL's are sums of whatever functions a user has. A range that is
    not given is 0 to 1 until a reward lies beyond it; from then on it is what has been seen, at least 1 wide, so that
    small movements of rewards that hardly move are not taken for a collapse.

    Args:
        given: lowest and highest reward.

    Attributes:
        range: as it is now.
    """

    def __init__(self, given: tuple[float, float] | None = None) -> None:
        self.range = given or (0.0, 1.0)
        self._is_given = given is not None
        self._seen = (math.inf, -math.inf)

    def see(self, reward: Any) -> bool:
        """Take in a reward; whether the scale is another one now."""
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
        """A line of numbers as the guard is to see it."""
        low, high = self.range
        if line.get("reward") is None:
            return line
        return {**line, "reward": (line["reward"] - low) / (high - low)}

    def as_logged(self, decision: Decision) -> Decision:
        """A decision with the trainer's own rewards."""
        low, high = self.range
        if not set(REWARDS) & set(decision.values):
            return decision
        values = {key: low + v * (high - low) if key in REWARDS else v for key, v in decision.values.items()}
        return replace(decision, values=values, message=message(decision.rule, values))
