"""Faulty records: counted, the first few named, and refused or left out."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Literal, TypeVar

from holdfast.errors import DataError
from holdfast.tasks.readers.record import FaultyRecord, Record

BadRecords = Literal["refuse", "drop"]

NAMED = 3
"""Faulty records that a message names."""

T = TypeVar("T")


def converted(
    found: Sequence[Record | FaultyRecord], convert: Callable[[Record], T], where: str, bad_records: BadRecords
) -> list[T]:
    """What `convert` makes of the records that can be read, in order. Faulty ones are dropped with a warning.

    Args:
        found: the records of a set.
        convert: raises a `DataError` if a record is faulty.
        where: the set, for messages.
        bad_records: whether faulty records may be dropped.

    Raises:
        DataError: a record is faulty and may not be dropped, or all of them are faulty.
    """
    results, faults = [], []
    for each in found:
        try:
            if isinstance(each, FaultyRecord):
                raise each.error
            results.append(convert(each))
        except DataError as error:
            faults.append(error)
    if faults:
        _settle(faults, len(found), where, bad_records)
    return results


def _settle(faults: Sequence[DataError], total: int, where: str, bad_records: BadRecords) -> None:
    if total == 1:
        raise faults[0]
    are = "is" if len(faults) == 1 else "are"
    what = f"{len(faults)} of {total} records {are} faulty; the first: {'; '.join(_named(faults[:NAMED], where))}"
    if len(faults) == total:
        raise DataError(what, where=where, fix=faults[0].fix)
    if bad_records == "drop":
        warnings.warn(f"{where}: {what}; they are left out", stacklevel=3)
        return
    raise DataError(what, where=where, fix=f"{faults[0].fix}; or leave them out with `bad_records: drop`")


def _named(faults: Iterable[DataError], where: str) -> list[str]:
    """Places and faults. Records that follow each other with one fault are named together."""
    groups = groupby(faults, key=lambda fault: fault.what)
    return [f"{', '.join(_place(fault.where, where) for fault in group)}: {what}" for what, group in groups]


def _place(place: str, where: str) -> str:
    """A record's place within its file, such as `line 3` or `row 5`."""
    rest = place.removeprefix(where)
    return f"line {rest[1:]}" if rest.startswith(":") else rest.removeprefix(", ")
