"""One short file per recipe: a wiring of the shared parts, and its paper's defaults."""

from holdfast.methods.base import Recipe
from holdfast.methods.grpo import GRPO
from holdfast.methods.sdft import SDFT
from holdfast.methods.sdpo import SDPO
from holdfast.methods.sft import SFT

RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in (SFT, SDFT, SDPO, GRPO)}
"""Every known recipe by name; a recipe of one's own is added with `register`."""


def register(recipe: type[Recipe]) -> type[Recipe]:
    """Make a recipe known under its name; usable as a class decorator."""
    RECIPES[recipe.name] = recipe
    return recipe
