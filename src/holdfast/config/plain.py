"""What no setting can be, whatever its key: refused before the settings are looked at one by one.

A configuration comes from YAML, from `--set` or as Python's own data, and it is written into the run directory as YAML.
"""

import math
from collections.abc import Mapping
from typing import Any

from holdfast.errors import ConfigError, printable, shown

_DEEPEST = 60
"""Blocks within each other. The deepest setting is at 6."""

_LARGEST = 2**63 - 1


def check_plain(value: Any, where: str) -> None:
    """Refuse values that no setting can have: infinities and NaN, integers of more than 64 bits, text with NUL or with
    half a character, keys that are no text, and blocks that hold themselves.

    Raises:
        ConfigError: the first problem; it names the key.
    """
    _check(value, (), where)


def _check(value: Any, path: tuple[str, ...], where: str) -> None:
    key = ".".join(path)
    if len(path) > _DEEPEST:
        fix = "no setting is that deep; check the indentation"
        raise ConfigError(f"{key[:40]}…: blocks are nested more than {_DEEPEST} deep", where=where, fix=fix)
    if isinstance(value, str):
        _check_text(value, key, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key}: {value} is no finite number", where=where, fix="write a finite number")
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise ConfigError(f"{key}: {shown(value)} does not fit into 64 bits", where=where, fix="write a smaller number")
    elif isinstance(value, Mapping):
        for name, each in value.items():
            if not isinstance(name, str):
                what = f"{key + ': ' if key else ''}the key {shown(name)} is not text"
                raise ConfigError(what, where=where, fix="write it in quotes if it is a name")
            _check_text(name, key or "a key", where)
            _check(each, (*path, name), where)
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            _check(each, (*path, str(index)), where)


def _check_text(text: str, key: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        what = f"{key}: {shown(printable(text))} has an unpaired surrogate, which is no character"
        raise ConfigError(what, where=where, fix="remove it, or save the text as UTF-8") from None
    if "\0" in text:
        raise ConfigError(f"{key}: {shown(text)} has a NUL", where=where, fix="remove it")
