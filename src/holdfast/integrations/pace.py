"""When to look: as often as a share of the training's own time pays for. Importable without torch."""

import math
import time
from collections.abc import Callable

WARM_UP = 3
"""Steps before the first decision: the first ones are slow, as a rule."""


class QuestionRate:
    """Counts the time of steps and of looks, and says when the next look is due.

    With a share s, a look that takes p seconds is taken once the time of training since the start, times s, has paid
    for it and for all looks before it. Looks at the very start and end are not counted: they are taken once.

    Args:
        share: of the training's time.
        every: steps between looks; in place of the share where it is not None.
        clock: seconds.
    """

    def __init__(self, share: float, every: int | None, clock: Callable[[], float] = time.perf_counter) -> None:
        self._share, self._every, self._clock = share, every, clock
        self.trained = self.looked = 0.0
        self._last = clock()
        self._steps, self._look = 0, 0.0
        self._next: int | None = None

    def begin(self, expected: float) -> None:
        """Training begins now; a look is expected to take so long."""
        self._look, self._last = expected, self._clock()

    def step(self) -> float:
        """A step has ended; the seconds since the last one, or since the last look."""
        now = self._clock()
        seconds, self._last = now - self._last, now
        self.trained += seconds
        self._steps += 1
        return seconds

    def skip(self) -> None:
        """What has passed since the last call was not training."""
        self._last = self._clock()

    def spent(self, seconds: float) -> None:
        """So long has just been spent on something else than looks and training; it is paid for like a look."""
        self.looked += seconds
        self._last = self._clock()

    def aside(self, seconds: float) -> None:
        """So long of the step that is being taken was no training; it is paid for like a look."""
        self.looked += seconds
        self._last += seconds

    def looked_for(self, seconds: float) -> None:
        """A look was taken, which took so long."""
        self.looked += seconds
        self._look, self._last = seconds, self._clock()
        self._next = None

    def wants_plan(self) -> bool:
        """Whether it is to be decided when the next look comes."""
        return self._every is None and self._next is None and self._steps >= WARM_UP

    def plan(self) -> int:
        """Steps from now to the next look; at least 1."""
        step = self.trained / max(1, self._steps)
        wanted = (self.looked + self._look) / self._share - self.trained
        return max(1, math.ceil(wanted / max(step, 1e-9)))

    def set_plan(self, steps: int) -> None:
        """The next look comes after so many more steps; of several processes the main one's word holds."""
        self._next = self._steps + steps

    def is_due(self, step: int) -> bool:
        """Whether to look now, after optimizer step `step` of the run."""
        if self._every is not None:
            return self._every > 0 and step % self._every == 0
        return self._next is not None and self._steps >= self._next
