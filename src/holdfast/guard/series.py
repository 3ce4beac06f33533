"""A live number over the steps of one stage: its first, latest and best averages, and how noisy it is."""

import math


class Series:
    """Values in order of steps; what is missing or not finite in a step is left out by whoever appends.

    Args:
        window: values in an average.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.values: list[float] = []
        self.best = -math.inf
        """The highest average over a window so far."""
        self._squares = 0.0

    def append(self, value: float) -> None:
        if self.values:
            self._squares += (value - self.values[-1]) ** 2
        self.values.append(value)
        if len(self.values) >= self.window:
            self.best = max(self.best, self.last)

    @property
    def is_long_enough(self) -> bool:
        """Whether the latest window and the first have no value in common."""
        return len(self.values) >= 2 * self.window

    @property
    def first(self) -> float:
        return sum(self.values[: self.window]) / self.window

    @property
    def last(self) -> float:
        return sum(self.values[-self.window :]) / self.window

    @property
    def error(self) -> float:
        """Standard error of the difference of two windows' averages.

        From the differences of successive values (von Neumann 1941), which a trend hardly touches, while a standard
        deviation around the mean would take what is learned for noise.
        """
        variance = self._squares / (2 * max(1, len(self.values) - 1))
        return math.sqrt(2 * variance / self.window)
