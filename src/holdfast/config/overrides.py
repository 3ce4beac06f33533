"""Replace settings of a configuration by dotted keys: `train.steps`, `tasks.facts.limit`, `recipes.0.beta`."""

import copy
from collections.abc import Mapping
from typing import Any

from holdfast.errors import ConfigError, did_you_mean


def apply_overrides(data: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of plain configuration data with settings replaced.

    Each part of a key names an entry of a block, or an entry of a list by its `label`, its `name` or its index from 0.
    Entries in short form (`lab:facts`, a recipe's name) are expanded first.

    Raises:
        ConfigError: the data is nested too deep, or a part of a key names no entry of a list, or something inside a
            single value.
    """
    try:
        result = copy.deepcopy(dict(data))
    except RecursionError:
        raise ConfigError("the configuration is nested too deep", fix="remove blocks") from None
    for key, value in overrides.items():
        _replace(result, key, value)
    return result


def _replace(data: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    block: Any = data
    for part in path:
        index = _index(block, part, key)
        inner = block.get(index) if isinstance(block, dict) else block[index]
        inner = {} if inner is None else _expanded(inner)
        if not isinstance(inner, dict | list):
            raise ConfigError(f"{part!r} is a single value, with nothing inside it to set", where=key)
        block[index] = inner
        block = inner
    block[_index(block, last, key)] = value


def _index(block: dict[str, Any] | list[Any], part: str, key: str) -> Any:
    if isinstance(block, dict):
        return part
    names = [_name(entry) for entry in block]
    if part in names:
        return names.index(part)
    if part.isdecimal() and len(part) < 10 and int(part) < len(block):
        return int(part)
    raise ConfigError(f"no entry {part!r}", where=key, fix=did_you_mean(part, [name for name in names if name]))


def _name(entry: Any) -> str:
    if isinstance(entry, str):
        return entry.rpartition(":")[2]
    return str(entry.get("label") or entry.get("name") or "") if isinstance(entry, Mapping) else ""


def _expanded(entry: Any) -> Any:
    if not isinstance(entry, str):
        return entry
    kind, colon, name = entry.partition(":")
    return {"name": name, kind: name} if colon else {"name": entry}
