"""Controls."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from holdfast.data.seeds import derive_seed
from holdfast.recipes.parts.controllers import Moment

if TYPE_CHECKING:
    from holdfast.recipes.base.recipe import Recipe


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
        """What the controllers set for an optimizer step (from 0)."""
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
