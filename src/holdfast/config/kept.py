"""Configurations and settings that an earlier version wrote, with today's names.

A key or value is replaced only if the block that it is in has the new one and lacks the old one. So a setting of a
user's recipe keeps its name, even if a recipe of holdfast once had a setting of that name. Names of runs, tasks, suites
and labels stay as well: results are filed under them.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from holdfast.config.base import block_in
from holdfast.config.recipe import registered_name
from holdfast.config.settings import Arm, arm_shorthand
from holdfast.recipes import RECIPES
from holdfast.recipes.base.recipe import Recipe
from holdfast.renamed import KEYS, VALUES


def with_new_names(kept: Any, block: type[BaseModel]) -> Any:
    """The plain data of a block of the configuration, with today's names. What is no mapping comes back as it is.

    Args:
        block: the model of the block, or of the whole configuration. It decides which names are old.
    """
    if not isinstance(kept, Mapping):
        return kept
    fields = block.model_fields
    renamed = {}
    for old, value in kept.items():
        key = KEYS[old] if old not in fields and KEYS.get(old) in fields else old
        renamed[key] = _value(value, fields[key].annotation) if key in fields else value
    return renamed


def recipe_with_new_names(kept: Any) -> Any:
    """A recipe, as a name or as a mapping of `name` and settings, with today's names.

    A recipe that a user registered keeps its name. The settings of a recipe that is not registered stay as they are.
    """
    if isinstance(kept, str):
        return registered_name(kept)
    if not isinstance(kept, Mapping) or not isinstance(kept.get("name"), str):
        return kept
    name = registered_name(kept["name"])
    settings = {key: value for key, value in kept.items() if key != "name"}
    return {"name": name} | (with_new_names(settings, RECIPES[name]) if name in RECIPES else settings)


def _value(value: Any, annotation: Any) -> Any:
    """The value of a field of the given type."""
    if isinstance(value, str) and value in VALUES:
        allowed = _literals(annotation)
        return VALUES[value] if value not in allowed and VALUES[value] in allowed else value
    block = block_in(annotation)
    if block is None:
        return value
    if isinstance(value, list):
        return [_value(each, block) for each in value]
    if issubclass(block, Recipe):
        return recipe_with_new_names(value)
    if block is Arm:
        value = arm_shorthand(value)
    return with_new_names(value, block)


def _literals(annotation: Any) -> set[Any]:
    """All values that a type such as `Literal["a", "b"] | None` lists."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    return {value for argument in get_args(annotation) for value in _literals(argument)}
