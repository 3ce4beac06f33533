"""When a run goes back, and takes along what its own near future has answered. Torch-free.

A recipe names it in `Recipe.guide`; a stage starts with a fresh scout. Until the scout says so, the run goes on as
ever; then it goes back exactly, and the answers stand in its rollout batches as rows for the recipe to judge.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from holdfast.recipes.parts.rollouts import NearFutureSpec


class Scout(Protocol):
    """Told of every optimizer step; its state is plain data for a checkpoint."""

    @property
    def due(self) -> bool:
        """Whether the run goes back now."""

    def is_place(self, step: int) -> bool:
        """Whether the run may go back to where it stands after so many steps of the stage."""

    def see(self, step: int, numbers: Mapping[str, Any], shares: Mapping[str, float]) -> None:
        """After a step: its line of metrics.jsonl, and of a new rollout batch the share of right samples by prompt."""

    def failed(self) -> list[str]:
        """Ids of prompts that quality is measured on."""

    def went_back(self) -> None: ...
    def found_nothing(self) -> None:
        """It was due, and no answer was found that is worth going back for: the run goes on."""

    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: Mapping[str, Any]) -> None: ...


@dataclass
class _Failures:
    """Prompts without a single right sample, and how often that was."""

    counts: dict[str, int] = field(default_factory=dict)

    def see(self, shares: Mapping[str, float]) -> None:
        for prompt, share in shares.items():
            if share:
                self.counts.pop(prompt, None)
            else:
                self.counts[prompt] = self.counts.get(prompt, 0) + 1

    def most(self, limit: int) -> list[str]:
        """Those that failed most often, of these the ones that failed first."""
        return sorted(self.counts, key=lambda prompt: -self.counts[prompt])[:limit]


@dataclass
class Ahead:
    """So many steps ahead from the beginning of a stage, once."""

    spec: NearFutureSpec
    step: int = 0
    done: bool = False
    failures: _Failures = field(default_factory=_Failures)

    @property
    def due(self) -> bool:
        return not self.done and self.step == self.spec.steps

    def is_place(self, step: int) -> bool:
        return step == 0 and not self.done

    def see(self, step: int, numbers: Mapping[str, Any], shares: Mapping[str, float]) -> None:
        self.step = step
        self.failures.see(shares)

    def failed(self) -> list[str]:
        return self.failures.most(self.spec.failures)

    def went_back(self) -> None:
        self.done = True

    def found_nothing(self) -> None:
        self.done = True

    def state(self) -> dict[str, Any]:
        return {"step": self.step, "done": self.done, "failures": self.failures.counts}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.step, self.done = state["step"], state["done"]
        self.failures = _Failures(dict(state["failures"]))


@dataclass
class Stalled:
    """AutoNPO's trigger: the reward stands still while the entropy has fallen."""

    spec: NearFutureSpec
    fast: float | None = None
    slow: float | None = None
    entropy: float | None = None
    entropy_then: float | None = None
    """At the last time that the run was due to go back, or at the stage's beginning."""
    still: int = 0
    """Rollout batches for which the reward has stood still."""
    rounds: int = 0
    failures: _Failures = field(default_factory=_Failures)

    @property
    def due(self) -> bool:
        if self.rounds >= self.spec.rounds or self.still < self.spec.patience or not self.failures.counts:
            return False
        known = self.entropy is not None and self.entropy_then is not None
        return known and self.entropy < self.spec.entropy_share * self.entropy_then  # type: ignore[operator]

    def is_place(self, step: int) -> bool:
        return self.rounds < self.spec.rounds and step % self.spec.every == 0

    def see(self, step: int, numbers: Mapping[str, Any], shares: Mapping[str, float]) -> None:
        self.failures.see(shares)
        if (entropy := numbers.get("entropy")) is not None:
            self.entropy = _moved(self.entropy, entropy, self.spec.fast_rate)
            self.entropy_then = self.entropy if self.entropy_then is None else self.entropy_then
        if (reward := numbers.get("reward")) is not None:
            self.fast = _moved(self.fast, reward, self.spec.fast_rate)
            self.slow = _moved(self.slow, reward, self.spec.slow_rate)
            self.still = self.still + 1 if self.fast - self.slow < self.spec.least_gain else 0

    def failed(self) -> list[str]:
        return self.failures.most(self.spec.failures)

    def went_back(self) -> None:
        self.found_nothing()
        self.rounds += 1
        self.failures = _Failures()

    def found_nothing(self) -> None:
        """Begin to watch anew; what the entropy must fall from now is what it is."""
        self.fast = self.slow = None
        self.entropy_then, self.still = self.entropy, 0

    def state(self) -> dict[str, Any]:
        numbers = ("fast", "slow", "entropy", "entropy_then", "still", "rounds")
        return {name: getattr(self, name) for name in numbers} | {"failures": self.failures.counts}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, _Failures(dict(value)) if name == "failures" else value)


def _moved(average: float | None, value: float, rate: float) -> float:
    return value if average is None else (1 - rate) * average + rate * value


def scout_of(spec: NearFutureSpec) -> Scout:
    """A fresh scout for a stage."""
    return Ahead(spec) if spec.kind == "ahead" else Stalled(spec)
