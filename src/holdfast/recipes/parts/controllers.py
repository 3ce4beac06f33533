"""Controllers: each sets one setting of a recipe before every optimizer step.

A recipe lists them in `Recipe.controllers`. Every stage starts with fresh ones, except for those that last. They see
the metrics of a step, never a gradient, and every checkpoint holds their state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple


class Moment(NamedTuple):
    """A position in a stage.

    Attributes:
        step: the next optimizer step, from 0.
        steps: optimizer steps of the stage.
        seed: the stage's seed, for a controller's own draws.
    """

    step: int
    steps: int
    seed: int


class Controller:
    """Sets one number. `value` is called before every optimizer step, `see` after it.

    `value` must not change the controller: it is called again for a step that was interrupted. Only `see` may.

    Class attributes:
        lasts: it is not replaced at the start of a stage, but keeps its state through the whole run.
    """

    lasts: ClassVar[bool] = False

    def value(self, moment: Moment) -> float:
        """The setting's value for the next step."""
        raise NotImplementedError

    def see(self, numbers: Mapping[str, Any]) -> None:
        """Receive the step's metrics, its line of `metrics.jsonl`."""

    def state(self) -> dict[str, Any]:
        """The state as plain data, for a checkpoint."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""


@dataclass(frozen=True)
class Ramp(Controller):
    """A linear ramp from `start` to `end`, then constant.

    Args:
        over: the ramp's length in optimizer steps, or as a fraction of the stage.
        of_stage: whether `over` is a fraction. A flag, because 1 could mean either.
    """

    start: float
    end: float
    over: float
    of_stage: bool = False

    def value(self, moment: Moment) -> float:
        steps = self.over * moment.steps if self.of_stage else self.over
        share = min(1.0, moment.step / steps) if steps else 1.0
        return (1 - share) * self.start + share * self.end


@dataclass(frozen=True)
class Until(Controller):
    """One value for the first `steps` of a stage, then another.

    Args:
        of_stage: whether `steps` is a fraction of the stage.
    """

    before: float
    after: float
    steps: float
    of_stage: bool = False

    def value(self, moment: Moment) -> float:
        steps = self.steps * moment.steps if self.of_stage else self.steps
        return self.before if moment.step < steps else self.after


@dataclass
class LastSeen(Controller):
    """The latest value of a metric, in this stage or an earlier one; `before` until there is one.

    With a recipe that updates the value whenever it annotates rows, this is a state of the recipe that lasts for the
    whole run.
    """

    metric: str
    before: float
    seen: float | None = None

    lasts: ClassVar[bool] = True

    def value(self, moment: Moment) -> float:
        return self.before if self.seen is None else self.seen

    def see(self, numbers: Mapping[str, Any]) -> None:
        self.seen = float(numbers[self.metric])

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.seen = state["seen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningProbe:
    """The loss on fixed prompts, measured at intervals for a controller, with some settings held constant.

    Args:
        every: optimizer steps between measurements. `probe_loss` is in the metrics of the step after a measurement.
        prompts: number of training prompts of the stage. They are the same each time, and so are the random draws of
            their completions.
        settings: the constant settings, by name.
    """

    every: int
    prompts: int
    settings: Mapping[str, float] = field(default_factory=dict)
