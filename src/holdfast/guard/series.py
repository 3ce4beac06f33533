"""One metric over the steps of a stage: its first, latest and best averages, and its noise."""

import math


class Series:
    """Values in the order of steps. The caller leaves out missing and non-finite values.

    Args:
        window: values in an average.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.values: list[float] = []
        self.best = -math.inf
        """The highest average over a window so far."""
        self._squares = 0.0
        """Sum of the squared differences of successive values."""

    def append(self, value: float) -> None:
        if self.values:
            self._squares += (value - self.values[-1]) ** 2
        self.values.append(value)
        if len(self.values) >= self.window:
            self.best = max(self.best, self.last)

    @property
    def is_long_enough(self) -> bool:
        """Whether the first and the latest window have no value in common."""
        return len(self.values) >= 2 * self.window

    @property
    def first(self) -> float:
        return sum(self.values[: self.window]) / self.window

    @property
    def last(self) -> float:
        return sum(self.values[-self.window :]) / self.window

    @property
    def error(self) -> float:
        """Standard error of the difference between the averages of two windows.

        It is estimated from the differences of successive values (von Neumann 1941), which a trend hardly changes. A
        standard deviation around the mean would count learning as noise.
        """
        variance = self._squares / (2 * max(1, len(self.values) - 1))
        return math.sqrt(2 * variance / self.window)
