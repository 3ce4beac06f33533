"""When a frozen teacher takes over the student's weights: on a schedule, or when metrics allow it. Torch-free."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from holdfast.recipes.parts.teacher import TeacherSpec


class Refresh(Protocol):
    """Decides after every rollout batch. Its state is plain data for a checkpoint."""

    def due(self, numbers: Mapping[str, Any], *, frozen: bool = False) -> bool:
        """Whether to refresh now.

        Args:
            numbers: the rollout batch's metrics.
            frozen: the guard has frozen the teacher.
        """

    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: Mapping[str, Any]) -> None: ...


@dataclass
class Clock:
    """Refresh every so many rollout batches of a stage.

    A `first` refresh is where a recipe begins to teach, so it happens in a frozen teacher too. Freezing only stops the
    refreshes after it.
    """

    every: int
    """Rollout batches between refreshes, counted from the first one; 0 for none after it."""
    first: int = 0
    """The rollout batch after which the first refresh comes; 0 for `every`."""
    batches: int = 0
    """Rollout batches of the stage so far."""

    def due(self, numbers: Mapping[str, Any], *, frozen: bool = False) -> bool:
        self.batches += 1
        since = self.batches - self.first
        again = self.every > 0 and since > 0 and since % self.every == 0
        return (again and not frozen) or (self.first > 0 and since == 0)

    @property
    def waits(self) -> bool:
        """Whether a `first` refresh is still to come."""
        return self.batches < self.first

    def state(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.batches = state["batches"]


@dataclass(frozen=True)
class Tail:
    """The metrics that decide: moving averages of the reward, and of the upper tail of completion lengths."""

    reward: float
    truncated: float
    """The share of truncated completions."""
    length: float
    """The 95th percentile of completion lengths, in tokens."""

    def moved(self, to: "Tail", rate: float) -> "Tail":
        mean = {k: (1 - rate) * v + rate * getattr(to, k) for k, v in asdict(self).items()}
        return Tail(**mean)

    def beats(self, other: "Tail", margin: float) -> bool:
        """Whether the reward is higher and there are, up to a margin, no more long or truncated completions."""
        safe = self.truncated <= other.truncated + margin and self.length <= other.length * (1 + margin)
        return self.reward > other.reward and safe


@dataclass
class RefreshCheck:
    """CGTR (arXiv 2606.03532): refresh if the reward is above that at the last refresh and the tail has not grown.

    The first rollout batch of a stage is what its first check is compared with.
    """

    every: int
    """Rollout batches between checks."""
    rate: float
    """Of the moving averages."""
    margin: float
    batches: int = 0
    now: Tail | None = None
    last: Tail | None = None
    """At the last refresh."""

    def due(self, numbers: Mapping[str, Any], *, frozen: bool = False) -> bool:
        if frozen:
            return False
        seen = Tail(
            float(numbers["reward"] or 0.0),
            float(numbers["truncated_fraction"]),
            float(numbers["completion_length_p95"]),
        )
        self.batches += 1
        self.now = seen if self.now is None else self.now.moved(seen, self.rate)
        self.last = self.last or self.now
        if self.batches % self.every or not self.now.beats(self.last, self.margin):
            return False
        self.last = self.now
        return True

    def state(self) -> dict[str, Any]:
        return {
            "batches": self.batches,
            "now": None if self.now is None else asdict(self.now),
            "last": None if self.last is None else asdict(self.last),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.batches = state["batches"]
        self.now, self.last = (None if state[k] is None else Tail(**state[k]) for k in ("now", "last"))


def refresh_of(spec: TeacherSpec) -> Refresh | None:
    """A fresh decision rule for a stage; None for kinds of teacher that are never refreshed."""
    if spec.kind == "periodic":
        return Clock(spec.every, spec.first)
    if spec.kind == "gated":
        return RefreshCheck(spec.every, spec.average_rate, spec.length_margin)
    return None
