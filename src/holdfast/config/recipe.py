"""Recipes in the configuration: a name, or a mapping of `name` and settings."""

import warnings
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, ValidationError

from holdfast.config.problems import first_problem
from holdfast.errors import did_you_mean
from holdfast.recipes import RECIPES
from holdfast.recipes.base.recipe import Recipe
from holdfast.renamed import current_recipe


def registered_name(name: str) -> str:
    """The name that a recipe is registered under. A recipe that a user registered under an old name comes first."""
    return name if name in RECIPES else current_recipe(name)


def dump_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data: its name and all settings, defaults included."""
    return {"name": recipe.name, **recipe.model_dump(mode="json")}


def _recipe(value: Any) -> Any:
    if isinstance(value, Recipe):
        return value
    name, settings = (value, {}) if isinstance(value, str) else _name_of(value)
    if (current := registered_name(name)) != name:
        warnings.warn(f"recipe {name!r} is called {current!r} now", stacklevel=2)
        name = current
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; {did_you_mean(name, RECIPES)}")
    try:
        return RECIPES[name].model_validate(settings)
    except ValidationError as error:
        raise ValueError(first_problem(error, RECIPES[name])) from None


def _name_of(value: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(value, Mapping) or "name" not in value:
        raise ValueError("a recipe is a name, or a mapping of `name` and its settings")
    return str(value["name"]), {k: v for k, v in value.items() if k != "name"}


AnyRecipe = Annotated[Recipe, BeforeValidator(_recipe), PlainSerializer(dump_recipe)]
