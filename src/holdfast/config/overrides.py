"""Settings of a configuration replaced by dotted keys: `train.steps`, `tasks.facts.limit`, `recipes.0.beta`."""

import copy
from collections.abc import Mapping
from typing import Any

from holdfast.errors import ConfigError, did_you_mean


def apply_overrides(data: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Plain configuration data with settings replaced; the data that is given stays as it is.

    Each part of a key names an entry of a block, or one of a list by its place from 0, its `label` or its `name`.
    Entries written short (`lab:facts`, a recipe's name) are written out first.

    Raises:
        ConfigError: a key leads through something that is no block or list, or names none of a list's entries.
    """
    result = copy.deepcopy(dict(data))
    for key, value in overrides.items():
        _replace(result, key, value)
    return result


def _replace(data: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    block: Any = data
    for part in path:
        place = _place(block, part, key)
        inner = block.get(place) if isinstance(block, dict) else block[place]
        inner = {} if inner is None else _written_out(inner)
        if not isinstance(inner, dict | list):
            raise ConfigError(f"{part!r} is a single value, with nothing inside it to set", where=key)
        block[place] = inner
        block = inner
    block[_place(block, last, key)] = value


def _place(block: dict[str, Any] | list[Any], part: str, key: str) -> Any:
    if isinstance(block, dict):
        return part
    names = [_name(entry) for entry in block]
    if part in names:
        return names.index(part)
    if part.isdecimal() and int(part) < len(block):
        return int(part)
    raise ConfigError(f"no entry {part!r}", where=key, fix=did_you_mean(part, [name for name in names if name]))


def _name(entry: Any) -> str:
    if isinstance(entry, str):
        return entry.rpartition(":")[2]
    return str(entry.get("label") or entry.get("name") or "") if isinstance(entry, Mapping) else ""


def _written_out(entry: Any) -> Any:
    if not isinstance(entry, str):
        return entry
    kind, colon, name = entry.partition(":")
    return {"name": name, kind: name} if colon else {"name": entry}
