"""When a frozen teacher takes over from the student: by the clock, or where the metrics allow it. Torch-free."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from holdfast.recipes.parts.teacher import TeacherSpec


class Refresh(Protocol):
    """Asked after every rollout batch; its state is plain data for a checkpoint."""

    def due(self, numbers: Mapping[str, Any], *, frozen: bool = False) -> bool:
        """Whether to refresh now, given what the rollout batch has measured.

        Args:
            frozen: the teacher is to stand still, whatever was measured.
        """

    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: Mapping[str, Any]) -> None: ...


@dataclass
class Clock:
    """Every so many rollout batches of a stage, counted from the first refresh on where that has a time of its own.

    Such a first refresh is where a recipe's teaching begins: it goes on in a frozen teacher, too, which stands still
    from then on.
    """

    every: int
    first: int = 0
    batches: int = 0

    def due(self, numbers: Mapping[str, Any], *, frozen: bool = False) -> bool:
        self.batches += 1
        since = self.batches - self.first
        again = self.every > 0 and since > 0 and since % self.every == 0
        return (again and not frozen) or (self.first > 0 and since == 0)

    @property
    def waits(self) -> bool:
        """Whether the first refresh, where it has a time of its own, is still to come."""
        return self.batches < self.first

    def state(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.batches = state["batches"]


@dataclass(frozen=True)
class Tail:
    """What the gate watches: moving averages of the reward, the truncated share and the long completions' length."""

    reward: float
    truncated: float
    length: float

    def moved(self, to: "Tail", rate: float) -> "Tail":
        mean = {k: (1 - rate) * v + rate * getattr(to, k) for k, v in asdict(self).items()}
        return Tail(**mean)

    def beats(self, other: "Tail", margin: float) -> bool:
        """A higher reward, and no more long or truncated completions than before, up to a margin."""
        safe = self.truncated <= other.truncated + margin and self.length <= other.length * (1 + margin)
        return self.reward > other.reward and safe


@dataclass
class RefreshCheck:
    """CGTR (arXiv 2606.03532): refresh where the reward is above that at the last refresh and the tail has not grown.

    Asked every `every` rollout batches; what a stage begins with is its first batch's measurement.
    """

    every: int
    rate: float
    margin: float
    batches: int = 0
    now: Tail | None = None
    last: Tail | None = None

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
    """What decides on a teacher's refreshes, anew for a stage; None for kinds that are not refreshed."""
    if spec.kind == "periodic":
        return Clock(spec.every, spec.first)
    if spec.kind == "gated":
        return RefreshCheck(spec.every, spec.average_rate, spec.length_margin)
    return None
