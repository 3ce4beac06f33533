"""When a run rolls back to an earlier step with answers from its near future. Importable without torch.

A recipe names the trigger in `Recipe.near_future`. Every stage starts with a new one. Until the trigger fires, the run
trains as it would without one. Then it rolls back exactly, and the rollout batches contain the answers as additional
rows, for the recipe to judge.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from holdfast.recipes.parts.rollouts import NearFutureSpec


class Trigger(Protocol):
    """Sees every optimizer step of a stage. Its state is plain data for a checkpoint."""

    @property
    def due(self) -> bool:
        """Whether the run rolls back now."""

    def is_return_point(self, step: int) -> bool:
        """Whether the run may later roll back to the point after `step` steps of the stage."""

    def see(self, step: int, reward: float | None, entropy: float | None, success_rates: Mapping[str, float]) -> None:
        """Take in a step.

        Args:
            reward: mean reward of a new rollout batch; None for later steps on it.
            entropy: of its samples, in nats per token; likewise.
            success_rates: by prompt, the share of correct samples in a new rollout batch; empty for later steps on it.
        """

    def numbers(self) -> dict[str, float | None]:
        """What it watches, for metrics.jsonl."""

    def failed_prompts(self) -> list[str]:
        """Ids of the prompts that the quality of answers is measured on: those that failed most often."""

    def went_back(self) -> None:
        """The run has rolled back."""

    def stayed(self) -> None:
        """The trigger fired, but no checkpoint had answers that justify a roll-back: the run continues."""

    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: Mapping[str, Any]) -> None: ...


@dataclass
class FailedPrompts:
    """For each prompt, how many batches in a row had no correct sample of it."""

    counts: dict[str, int] = field(default_factory=dict)

    def see(self, success_rates: Mapping[str, float]) -> None:
        for prompt, rate in success_rates.items():
            if rate:
                self.counts.pop(prompt, None)
            else:
                self.counts[prompt] = self.counts.get(prompt, 0) + 1

    def most_frequent(self, limit: int) -> list[str]:
        """The prompts that failed most often. Ties keep the order in which they first failed."""
        return sorted(self.counts, key=lambda prompt: -self.counts[prompt])[:limit]


@dataclass
class AfterSteps:
    """Fires once in a stage, after a fixed number of steps. The run rolls back to the start of the stage."""

    spec: NearFutureSpec
    step: int = 0
    done: bool = False
    failures: FailedPrompts = field(default_factory=FailedPrompts)

    @property
    def due(self) -> bool:
        return not self.done and self.step == self.spec.steps

    def is_return_point(self, step: int) -> bool:
        return step == 0 and not self.done

    def see(self, step: int, reward: float | None, entropy: float | None, success_rates: Mapping[str, float]) -> None:
        self.step = step
        self.failures.see(success_rates)

    def numbers(self) -> dict[str, float | None]:
        return {}

    def failed_prompts(self) -> list[str]:
        return self.failures.most_frequent(self.spec.failures)

    def went_back(self) -> None:
        self.done = True

    def stayed(self) -> None:
        self.done = True

    def state(self) -> dict[str, Any]:
        return {"step": self.step, "done": self.done, "failures": self.failures.counts}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.step, self.done = state["step"], state["done"]
        self.failures = FailedPrompts(dict(state["failures"]))


STALLED_STATE = {
    "fast": "fast_reward",
    "slow": "slow_reward",
    "entropy": "entropy",
    "entropy_then": "entropy_before",
    "still": "stalled_batches",
    "rounds": "rounds",
}
"""Key in a checkpoint → attribute of `WhenStalled`. The keys are those of earlier versions."""


@dataclass
class WhenStalled:
    """AutoNPO's trigger: fires when the reward has stopped rising although the entropy has fallen."""

    spec: NearFutureSpec
    fast_reward: float | None = None
    slow_reward: float | None = None
    """Moving averages. The reward rises while the fast one is above the slow one."""
    entropy: float | None = None
    """Moving average of the samples' entropy, at the fast rate."""
    entropy_before: float | None = None
    """The entropy when the trigger last fired, or at the start of the stage."""
    stalled_batches: int = 0
    """Rollout batches since the reward last rose."""
    rounds: int = 0
    """How often the stage has rolled back."""
    failures: FailedPrompts = field(default_factory=FailedPrompts)

    @property
    def due(self) -> bool:
        if self.rounds >= self.spec.rounds or self.stalled_batches < self.spec.patience or not self.failures.counts:
            return False
        if self.spec.entropy_share is None:
            return True
        known = self.entropy is not None and self.entropy_before is not None
        return known and self.entropy < self.spec.entropy_share * self.entropy_before  # type: ignore[operator]

    def is_return_point(self, step: int) -> bool:
        return self.rounds < self.spec.rounds and step % self.spec.every == 0

    def see(self, step: int, reward: float | None, entropy: float | None, success_rates: Mapping[str, float]) -> None:
        self.failures.see(success_rates)
        if entropy is not None:
            self.entropy = _moving_average(self.entropy, entropy, self.spec.fast_rate)
            self.entropy_before = self.entropy if self.entropy_before is None else self.entropy_before
        if reward is not None:
            self.fast_reward = _moving_average(self.fast_reward, reward, self.spec.fast_rate)
            self.slow_reward = _moving_average(self.slow_reward, reward, self.spec.slow_rate)
            stalled = self.fast_reward - self.slow_reward < self.spec.least_gain
            self.stalled_batches = self.stalled_batches + 1 if stalled else 0

    def numbers(self) -> dict[str, float | None]:
        return {"stalled_batches": self.stalled_batches, "sample_entropy": self.entropy}

    def failed_prompts(self) -> list[str]:
        return self.failures.most_frequent(self.spec.failures)

    def went_back(self) -> None:
        self.stayed()
        self.rounds += 1
        self.failures = FailedPrompts()

    def stayed(self) -> None:
        """Watch from here again: the entropy must fall from its current value."""
        self.fast_reward = self.slow_reward = None
        self.entropy_before, self.stalled_batches = self.entropy, 0

    def state(self) -> dict[str, Any]:
        values = {key: getattr(self, attribute) for key, attribute in STALLED_STATE.items()}
        return values | {"failures": self.failures.counts}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for key, attribute in STALLED_STATE.items():
            setattr(self, attribute, state[key])
        self.failures = FailedPrompts(dict(state["failures"]))


def _moving_average(average: float | None, value: float, rate: float) -> float:
    return value if average is None else (1 - rate) * average + rate * value


def make_trigger(spec: NearFutureSpec) -> Trigger:
    """A new trigger for a stage."""
    return AfterSteps(spec) if spec.kind == "ahead" else WhenStalled(spec)
