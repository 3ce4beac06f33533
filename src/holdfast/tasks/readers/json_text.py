"""JSON text as records: lines of objects, one array, objects one after another, or one object that wraps records.

A line that is broken is one faulty record. A file that is broken as a whole is an error.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from holdfast.errors import DataError, shown
from holdfast.tasks.readers.record import FaultyRecord, Record, kind
from holdfast.tasks.readers.wrapped import unwrapped

_SIGN = re.compile(r"\S")

_LINE_END = re.compile(r"\r\n|\n|\r")
"""Not `str.splitlines`: it also splits at characters that JSON text may contain, such as U+2028."""


def json_records(text: str, path: str, split: str | None = None) -> Iterator[Record | FaultyRecord]:
    """The records of a JSON file, whatever its layout. The first character tells an array from objects.

    Args:
        text: of the file.
        path: of the file, for error messages.
        split: the list that is meant if an object wraps several, such as `train`.

    Raises:
        DataError: the file as a whole is no JSON, or wraps its records in a way that is not plain.
    """
    text = text.removeprefix("\ufeff")
    if text.lstrip().startswith("["):
        yield from _items(parse_json(text, path), path)
        return
    lines = [(number, line) for number, line in enumerate(_LINE_END.split(text), 1) if line.strip()]
    if not lines:
        return
    if _is_whole(lines[0][1]):
        values = None
    else:
        values = _concatenated(text)  # objects that are written over several lines each
        if values is None and not any(_is_whole(line) for _, line in lines):
            parse_json(text, path)  # raises: it says what is wrong first
    if values is None and len(lines) > 1:
        yield from _lines(lines, path)
        return
    number, line = lines[0]
    found = values if values is not None else [(number, parse_json(line, f"{path}:{number}"))]
    if len(found) == 1 and isinstance(found[0][1], dict):
        wrapped = unwrapped(found[0][1], path, split)
        if wrapped is not None:
            yield from _items(wrapped, path)
            return
    if len({number for number, _ in found}) < len(found):  # several on one line
        yield from _items([value for _, value in found], path)
        return
    for number, value in found:
        yield _record(value, number, f"{path}:{number}")


def _items(items: Sequence[Any], path: str) -> Iterator[Record | FaultyRecord]:
    for number, item in enumerate(items, 1):
        yield _record(item, number, f"{path}, item {number}")


def _lines(lines: Sequence[tuple[int, str]], path: str) -> Iterator[Record | FaultyRecord]:
    for number, line in lines:
        where = f"{path}:{number}"
        try:
            value = parse_json(line, where)
        except DataError as error:
            yield FaultyRecord(where, error)
        else:
            yield _record(value, number, where)


def _record(value: Any, number: int, where: str) -> Record | FaultyRecord:
    if isinstance(value, Mapping):
        return Record(value, number, where)
    fix = 'write {"prompt": …, "completion": …} for each example'
    return FaultyRecord(where, DataError(f"is {kind(value)}, not an object", where=where, fix=fix))


def parse_json(text: str, where: str) -> Any:
    """JSON as plain data. NaN, infinities and repeated keys, which readers take in different ways, are refused.

    Raises:
        DataError: it is no JSON; the message says what is wrong and how to mend it.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise DataError(f"is not valid JSON: {error.msg} at {place}", where=where, fix=_fix(text, error)) from None
    except (RecursionError, ValueError) as error:
        what = str(error)
        fix = "write a number of so many digits as text" if "digits" in what else "check its syntax"
        if isinstance(error, RecursionError):
            what, fix = "lists and objects are nested too deep", "remove some, or leave the record out"
        if isinstance(error, _RepeatedKeyError):
            fix = "remove one of the two"
        what = f"cannot be read as JSON: {what.partition('; use sys')[0]}"
        raise DataError(what, where=where, fix=fix) from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON; write null, or leave the key out")


class _RepeatedKeyError(ValueError):
    """An object that has a key twice. Readers disagree about which value counts."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _RepeatedKeyError(f"an object has the key {shown(twice)} twice")
    return found


def _fix(text: str, error: json.JSONDecodeError) -> str:
    """How to mend the mistakes that tools and hands make most often."""
    before, rest = text[: error.pos].rstrip(), text[error.pos :].lstrip()
    if rest.startswith(("}", "]")) and before.endswith(","):
        return "remove the comma before the closing bracket"
    if rest.startswith(("}", "]", ",")) and error.msg == "Extra data":
        return "remove what follows the object, e.g. a comma"
    if rest.startswith("'"):
        return "write double quotes, as `json.dumps` does; this is Python's own notation"
    if rest.startswith("{") and error.msg == "Extra data":
        return "write one object per line"
    if re.match(r"(None|True|False)\b", rest):
        return "write null, true or false, as `json.dumps` does; this is Python's own notation"
    return "write one object per line, or one array of objects"


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_object)


def _is_whole(line: str) -> bool:
    """Whether a line is JSON by itself."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _concatenated(text: str) -> list[tuple[int, Any]] | None:
    """Objects that follow each other, each with the line at which it begins; None if the text is something else."""
    decoder, position, line, seen = _DECODER, 0, 1, 0
    found: list[tuple[int, Any]] = []
    while match := _SIGN.search(text, position):
        position = match.start()
        line += text.count("\n", seen, position)
        seen = position
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return None
        found.append((line, value))
    return found
