"""One JSON object that holds all records of a file: a list under a key, or lists by column."""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.errors import DataError

_OWN_COLUMNS = ("prompt", "rendered_prompt", "messages", "conversations", "instruction", "question")
"""Columns of records. An object that has one of them as text or as one conversation is a record and wraps nothing."""

_OWN_LISTS = ("tools", "functions")
"""Columns of records that hold lists of objects."""

_TURN_KEYS = ({"role", "content"}, {"role", "tool_calls"}, {"from", "value"})


def unwrapped(value: Mapping[str, Any], path: str, split: str | None = None) -> Sequence[Any] | None:
    """The records that an object wraps; None if the object is a record itself.

    Read are an object with one list of objects, such as {"version": 1, "data": [...]}; an object with a list per split,
    of which `split` is taken; and lists by column, such as {"prompt": [...], "completion": [...]}, in the forms that
    pandas writes too.

    Args:
        value: the object.
        path: of the file, for error messages.
        split: the list to take if there are several: `train` or `test`.

    Raises:
        DataError: there are several lists and none has the name of the split.
    """
    if any(isinstance(own := value.get(name), str) or _are_turns(own) for name in _OWN_COLUMNS):
        return None
    if _is_table(value.get("columns"), value.get("data")):
        return [dict(zip(value["columns"], row, strict=True)) for row in value["data"]]
    lists = [key for key, items in value.items() if key not in _OWN_LISTS and _holds_records(items)]
    if len(lists) == 1:
        return list(value[lists[0]])
    if len(lists) > 1:
        if split in lists:
            return list(value[split])
        raise DataError(
            f"wraps its records in an object with the lists {', '.join(map(repr, lists))}",
            where=path,
            fix="write one file per list",
        )
    return _rows(value)


def _holds_records(items: Any) -> bool:
    """Whether a value is a list of objects that are no turns of a conversation."""
    objects = isinstance(items, list) and bool(items) and all(isinstance(item, Mapping) for item in items)
    return objects and not _are_turns(items)


def _are_turns(items: Any) -> bool:
    """Whether a value is a conversation."""
    return (
        isinstance(items, list)
        and bool(items)
        and all(isinstance(item, Mapping) and any(keys <= set(item) for keys in _TURN_KEYS) for item in items)
    )


def _is_table(columns: Any, rows: Any) -> bool:
    """Whether these are names of columns and rows of cells, as pandas writes them with `orient="split"`."""
    return (
        isinstance(columns, list)
        and all(isinstance(column, str) for column in columns)
        and isinstance(rows, list)
        and bool(rows)
        and all(isinstance(row, list) and len(row) == len(columns) for row in rows)
    )


def _rows(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The rows of lists by column, or of columns by row number as pandas writes them by default."""
    columns = list(value.values())
    if not columns:
        return None
    if all(isinstance(column, list) and column and not _are_turns(column) for column in columns):
        if len({len(column) for column in columns}) > 1:
            return None
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if all(isinstance(column, Mapping) for column in columns):
        numbers = [str(number) for number in range(len(columns[0]))]
        if numbers and all(list(column) == numbers for column in columns):
            return [{name: column[number] for name, column in value.items()} for number in numbers]
    return None
