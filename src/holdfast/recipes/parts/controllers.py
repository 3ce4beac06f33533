"""What changes between optimizer steps: controllers, each of which sets one of a recipe's settings anew. Torch-free.

A recipe names them in `Recipe.controllers`; a stage starts with fresh ones. They see the numbers that a step is logged
with, never a gradient, and their state is in every checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Moment(NamedTuple):
    """Where a stage stands."""

    step: int
    """The optimizer step that is to come, from 0."""
    steps: int
    """Of the stage."""
    seed: int
    """Of the stage, for a controller's own draws."""


class Controller:
    """Sets one number: `value` is asked before every optimizer step, and `see` is told of it afterwards.

    A step that was interrupted is asked for again, so `value` must change nothing; only `see` may move the controller.
    """

    def value(self, moment: Moment) -> float:
        """What is set for the step that is to come."""
        raise NotImplementedError

    def see(self, numbers: Mapping[str, Any]) -> None:
        """The step's line of `metrics.jsonl`."""

    def state(self) -> dict[str, Any]:
        """What it goes on from, as plain data."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""


@dataclass(frozen=True)
class Ramp(Controller):
    """From `start` linearly to `end` over so many steps, and `end` from then on.

    Args:
        over: optimizer steps; or a share of the stage's.
        of_stage: which of the two, for 1 could be either.
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
    """One value for so many steps of a stage, and another from then on."""

    before: float
    after: float
    steps: int

    def value(self, moment: Moment) -> float:
        return self.before if moment.step < self.steps else self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningProbe:
    """The loss on fixed prompts, measured now and then for a controller, with some of the recipe's settings held fixed.

    Args:
        every: optimizer steps from one to the next; it stands as `probe_loss` in the line of the step that follows it.
        prompts: of the stage's training prompts, each time the same, completed anew from the same draws.
        settings: by name.
    """

    every: int
    prompts: int
    settings: Mapping[str, float] = field(default_factory=dict)
