"""Which checkpoints of a stage are healthy, so that a roll-back may go to them. Importable without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class HealthyCheckpoints:
    """The checkpoint that a roll-back goes to, and those that may replace it.

    A candidate becomes healthy after two windows of steps in which no rule came close to firing, if the reward is then
    not below the best one by more than its standard error. CGTR (arXiv 2606.03532) gates in the same way what a teacher
    is refreshed with.
    """

    number: int = 0
    """The latest healthy checkpoint; at first the start of the stage."""
    previous: int | None = None
    """The healthy checkpoint of the stage before that. It is used if the latest is damaged."""
    candidates: dict[int, int] = field(default_factory=dict)
    """Step of each candidate, by checkpoint number."""
    best_reward: float | None = None

    def see(self, step: int, calm: bool, reward: tuple[float, float] | None, patience: int) -> None:
        """Judge the candidates after a step.

        Args:
            calm: no rule is close to firing.
            reward: mean and standard error of the latest window of rewards.
            patience: calm steps that a candidate needs.
        """
        if not calm:
            self.candidates.clear()
            return
        ripe = [number for number, since in self.candidates.items() if step - since >= patience]
        if not ripe:
            return
        if reward is None or self.best_reward is None or reward[0] >= self.best_reward - reward[1]:
            self.number, self.previous = max(ripe), self.number
            if reward is not None:
                self.best_reward = reward[0] if self.best_reward is None else max(reward[0], self.best_reward)
        for number in ripe:
            del self.candidates[number]

    def replace(self, number: int, previous: int) -> None:
        """Make a new checkpoint, which is a copy of the healthy checkpoint `previous`, the latest healthy one."""
        self.number, self.previous = number, previous
        self.candidates.clear()

    def newest_first(self) -> list[int]:
        """Numbers of the healthy checkpoints that are kept, the latest first."""
        return [number for number in (self.number, self.previous) if number is not None]

    def as_json(self) -> dict[str, Any]:
        """Plain data for a checkpoint. The keys are those of earlier versions."""
        return {
            "number": self.number,
            "before": self.previous,
            "candidates": self.candidates,
            "best_reward": self.best_reward,
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "HealthyCheckpoints":
        candidates = {int(number): step for number, step in saved["candidates"].items()}  # JSON keys are strings
        return cls(saved["number"], saved["before"], candidates, saved["best_reward"])
