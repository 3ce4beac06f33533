"""One record of a dataset: its values by column, and where it stands for error messages."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.errors import DataError, did_you_mean, shortened

LONGEST_TEXT = 2_000_000
"""Characters of a text. The longest context of a model has about as many; what is longer is no text by mistake alone,
and takes minutes to tokenize."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a dataset.

    Args:
        values: by column.
        number: its line, item or row, from 1.
        where: the file and the number, for error messages.
        filled: whether the file's format writes None for a key that only other records have, as Arrow does.
    """

    values: Mapping[str, Any]
    number: int
    where: str
    filled: bool = False


@dataclass(frozen=True, slots=True)
class FaultyRecord:
    """A record that cannot be read, and why."""

    where: str
    error: DataError


def kind(value: Any) -> str:
    """What a value is, in words for error messages."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    if value is None or value == "" or value == []:
        return "empty"
    return names.get(type(value), type(value).__name__)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for error messages of one line."""
    return shortened(next(iter(str(error).strip().splitlines()), "no message"), 300)


def text(value: Any, name: str, where: str, *, may_be_empty: bool = False) -> str:
    """A value that must be text.

    Args:
        value: of the record.
        name: of the column, or of a part of it, for error messages.
        where: the record, for error messages.
        may_be_empty: whether text without a character is allowed.

    Raises:
        DataError: it is not text, it is blank, it is far longer than any prompt, or it has half a character.
    """
    if not isinstance(value, str):
        raise DataError(f"`{name}` is {kind(value)}, not text", where=where, fix="write it as a string")
    if not may_be_empty and not value.strip():
        raise DataError(f"`{name}` is empty", where=where, fix="fill it in, or remove the record")
    if len(value) > LONGEST_TEXT:
        what = f"`{name}` has {len(value):,} characters, and no model reads more than {LONGEST_TEXT:,}"
        raise DataError(what, where=where, fix="shorten it, or leave the record out")
    refuse_no_value(value, name, where)
    return value


def refuse_no_value(value: Any, name: str, where: str) -> None:
    """Refuse half a character, NaN and infinities anywhere in a value: nothing can be compared with these, or write
    them into a file.

    Raises:
        DataError: it has one.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            what = f"`{name}` has an unpaired surrogate, which is no character"
            raise DataError(what, where=where, fix="save it as UTF-8") from None
    elif isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"`{name}` has {value}, which is no number", where=where, fix="write null, or leave it out")
    elif isinstance(value, Mapping):
        for key, each in value.items():
            refuse_no_value(key, name, where)
            refuse_no_value(each, f"{name}.{key}", where)
    elif isinstance(value, list | tuple):
        for each in value:
            refuse_no_value(each, name, where)


def column(values: Mapping[str, Any], name: str) -> Any:
    """The value of a column; None if there is none. A dotted name leads into nested objects and lists.

    A column whose own name has dots goes before. The items of a list are numbered from 0. The empty name is no column.
    """
    return values[name] if name and name in values else _inner(values, name.split("."))[1]


def has_column(values: Mapping[str, Any], name: str) -> bool:
    """Whether a record has a column, also if its value is empty. See `column`."""
    return bool(name) and (name in values or _inner(values, name.split("."))[0])


def _inner(value: Any, path: Sequence[str]) -> tuple[bool, Any]:
    """Whether nested objects and lists have a value at this path, and the value."""
    for part in path:
        if part and isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and len(part) < 10 and int(part) < len(value):
            value = value[int(part)]
        else:
            return False, None
    return True, value


def column_names(records: Iterable[Record]) -> set[str]:
    """The names of all columns, those of nested objects in dotted form too."""
    return {name for record in records for name in _names(record.values, "")}


def _names(values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _names(value, f"{prefix}{key}.")


def missing_column(name: str, existing: Iterable[str], where: str) -> DataError:
    """The error for a column that a record or a file does not have. `existing` may have dotted names."""
    known = sorted(map(str, existing))
    hint = did_you_mean(name, known)
    fix = hint if hint.startswith("did") else "name the column under `columns:`"
    listed = [each for each in known if "." not in each or each.partition(".")[0] not in known]
    columns = shortened(", ".join(listed), 300) or "none"
    return DataError(f"no column {name!r}; the columns are {columns}", where=where, fix=fix)
