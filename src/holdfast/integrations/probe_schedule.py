"""When to probe: as often as a share of the training time allows. Importable without torch."""

import math
import time
from collections.abc import Callable

WARM_UP = 3
"""Steps before the first plan. The first steps are usually slow."""


class ProbeSchedule:
    """Measures the time of training steps and of probes, and says when the next probe is due.

    A probe is due once the share of the training time so far covers this probe and all probes before it. The
    evaluations at the start and at the end happen once and are not counted.

    Args:
        share: of the training time.
        every: steps between probes, which replaces the share; None: use the share.
        clock: returns seconds.

    Attributes:
        trained: seconds of training so far.
        overhead: seconds of probes and other work of the watcher so far.
    """

    def __init__(self, share: float, every: int | None, clock: Callable[[], float] = time.perf_counter) -> None:
        self._share, self._every, self._clock = share, every, clock
        self.trained = self.overhead = 0.0
        self._last = clock()
        self._steps, self._probe = 0, 0.0
        self._next: int | None = None

    def begin(self, probe_seconds: float) -> None:
        """Training begins now. A probe is expected to take `probe_seconds`."""
        self._probe, self._last = probe_seconds, self._clock()

    def step(self) -> float:
        """A step has ended. Returns the seconds since the last step or probe."""
        now = self._clock()
        seconds, self._last = now - self._last, now
        self.trained += seconds
        self._steps += 1
        return seconds

    def skip(self) -> None:
        """The time since the last call was neither training nor the watcher's."""
        self._last = self._clock()

    def spent(self, seconds: float) -> None:
        """The watcher has just spent this time between two steps. It counts as overhead."""
        self.overhead += seconds
        self._last = self._clock()

    def spent_within_step(self, seconds: float) -> None:
        """The watcher spent this time within the current step. It counts as overhead, not as training."""
        self.overhead += seconds
        self._last += seconds

    def probed(self, seconds: float) -> None:
        """A probe has just ended, which took this time."""
        self.overhead += seconds
        self._probe, self._last = seconds, self._clock()
        self._next = None

    def needs_plan(self) -> bool:
        """Whether the next probe has to be planned now."""
        return self._every is None and self._next is None and self._steps >= WARM_UP

    def plan(self) -> int:
        """Steps from now to the next probe; at least 1."""
        step = self.trained / max(1, self._steps)
        wanted = (self.overhead + self._probe) / self._share - self.trained
        return max(1, math.ceil(wanted / max(step, 1e-9)))

    def set_plan(self, steps: int) -> None:
        """Plan the next probe this many steps from now. Several processes must set the same plan."""
        self._next = self._steps + steps

    def is_due(self, step: int) -> bool:
        """Whether to probe now, after optimizer step `step` of the training."""
        if self._every is not None:
            return self._every > 0 and step % self._every == 0
        return self._next is not None and self._steps >= self._next
