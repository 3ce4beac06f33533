"""Examples on their way to a judging process: the example that arrives equals the one that was sent.

JSON has no form for dates, tuples, sets or numbers of NumPy, which data of a user may hold. A field with such a value
travels as a pickle inside of the JSON. Only a run sends examples; nothing that comes back from a process is unpickled.
"""

import base64
import pickle
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from holdfast.data.example import Example
from holdfast.errors import DataError

_TUPLES = ("messages", "solution", "actions", "translation", "tools", "trained_turns")
_LARGEST_INTEGER = 2**63


def as_message(example: Example) -> dict[str, Any]:
    """An example as plain data.

    Raises:
        DataError: a value of it can be sent in no form.
    """
    sent: dict[str, Any] = {}
    for field in fields(example):
        value = getattr(example, field.name)
        listed = list(value) if field.name in _TUPLES and type(value) is tuple else value
        if value is None:
            continue
        sent[field.name] = listed if _is_plain(listed) else {"pickled": _pickled(value, example.id, field.name)}
    return sent


def from_message(sent: Mapping[str, Any]) -> Example:
    """The example that `as_message` made plain data of."""
    values: dict[str, Any] = {}
    for name, value in sent.items():
        if type(value) is dict and set(value) == {"pickled"}:
            values[name] = pickle.loads(base64.b64decode(value["pickled"]))
        else:
            values[name] = tuple(value) if name in _TUPLES and value is not None else value
    return Example(**values)


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value comes back from JSON as it was."""
    if depth > 100 or value is None or type(value) in (str, bool, float):
        return depth <= 100
    if type(value) is int:
        return abs(value) < _LARGEST_INTEGER
    if type(value) is list:
        return all(_is_plain(each, depth + 1) for each in value)
    if type(value) is dict and set(value) != {"pickled"}:
        return all(type(key) is str and _is_plain(each, depth + 1) for key, each in value.items())
    return False


def _pickled(value: Any, example: str, field: str) -> str:
    try:
        return base64.b64encode(pickle.dumps(value)).decode()
    except Exception as error:
        raise DataError(
            f"its `{field}` cannot be sent to the process that judges: {type(error).__name__}",
            where=f"example {example!r}",
            fix="give plain values, or set `in_process: true`",
        ) from None
