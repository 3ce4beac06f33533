"""What changes between optimiser steps: controllers, each of which sets one of a recipe's settings anew. Torch-free.

A recipe names them in `Recipe.controllers`; a stage starts with fresh ones. They see the numbers that a step is logged
with, never a gradient, and their state is in every checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.seeds import derive_seed

if TYPE_CHECKING:
    from holdfast.methods.base import Recipe


class Moment(NamedTuple):
    """Where a stage stands."""

    step: int
    """The optimiser step that is to come, from 0."""
    steps: int
    """Of the stage."""
    seed: int
    """Of the stage, for a controller's own draws."""


class Controller:
    """Sets one number: `value` is asked before every optimiser step, and `see` is told of it afterwards.

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
        over: optimiser steps; or a share of the stage's.
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


class Controls:
    """A recipe and its controllers during one stage.

    Args:
        name: of the stage, for draws: the run's seed and the stage's number.
    """

    def __init__(self, recipe: "Recipe", steps: int, *name: int | str) -> None:
        self._recipe, self._steps = recipe, steps
        self._seed = derive_seed(*name, "controllers")
        self._controllers = recipe.controllers()

    def settings(self, step: int) -> dict[str, float]:
        """What the controllers set for an optimiser step (from 0)."""
        moment = Moment(step, self._steps, self._seed)
        return {name: controller.value(moment) for name, controller in self._controllers.items()}

    def recipe(self, settings: Mapping[str, float]) -> "Recipe":
        """The recipe with these settings."""
        return self._recipe.model_copy(update=dict(settings)) if settings else self._recipe

    def see(self, numbers: Mapping[str, Any]) -> None:
        for controller in self._controllers.values():
            controller.see(numbers)

    def state(self) -> dict[str, Any]:
        return {name: controller.state() for name, controller in self._controllers.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name, controller in self._controllers.items():
            controller.load_state(state[name])
