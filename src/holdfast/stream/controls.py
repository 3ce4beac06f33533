"""The recipe's controllers during one stage: they set settings of the recipe anew for every step."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from holdfast.data.seeds import derive_seed
from holdfast.recipes.parts.controllers import Controller, Moment

if TYPE_CHECKING:
    from holdfast.recipes.base.recipe import Recipe


class Controls:
    """A recipe and its controllers during one stage.

    Args:
        steps: optimizer steps of the stage.
        name: names the stage for random draws: the run's seed and the stage's number.
        lasting: the controllers that last for the whole run, by the setting's name; by default fresh ones.
    """

    def __init__(
        self, recipe: "Recipe", steps: int, *name: int | str, lasting: Mapping[str, Controller] | None = None
    ) -> None:
        self._recipe, self._steps = recipe, steps
        self._seed = derive_seed(*name, "controllers")
        self._controllers = recipe.controllers() | dict(lasting or {})

    def settings(self, step: int) -> dict[str, float]:
        """What the controllers set for an optimizer step (from 0), by the setting's name."""
        moment = Moment(step, self._steps, self._seed)
        return {name: controller.value(moment) for name, controller in self._controllers.items()}

    def recipe(self, settings: Mapping[str, float]) -> "Recipe":
        """The recipe with these settings."""
        return self._recipe.model_copy(update=dict(settings)) if settings else self._recipe

    def see(self, metrics: Mapping[str, Any]) -> None:
        """Show the metrics of a step to the controllers, which may learn from them."""
        for controller in self._controllers.values():
            controller.see(metrics)

    def state(self) -> dict[str, Any]:
        return {name: controller.state() for name, controller in self._controllers.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name, controller in self._controllers.items():
            controller.load_state(state[name])
