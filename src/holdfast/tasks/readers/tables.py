"""Tables as records: CSV and TSV, whose cells are text, and Parquet."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from holdfast.errors import DataError
from holdfast.tasks.readers.record import FaultyRecord, Record, first_line

_LONGEST_CELL = 2**31 - 1
"""Characters. Python's own limit of 131072 is less than a long conversation."""

_SEPARATOR_LINE = re.compile(r'"?sep=([,;\t|])"?', re.IGNORECASE)


def text_table(text: str, path: str, separator: str | None = None) -> Iterator[Record | FaultyRecord]:
    """The rows of a CSV or TSV file, whose first line names the columns. An empty cell has no value. A column without a
    name, such as pandas' row numbers, is left out, and so are rows without any value.

    Args:
        text: of the file.
        path: of the file, for error messages.
        separator: of cells; by default what the first line has: a comma, or else a semicolon, or else a tab. A line
            `sep=;` before it, as spreadsheets write it, says so itself.

    Raises:
        DataError: the first line does not name the columns, or the file cannot be read as a table.
    """
    text = text.removeprefix("\ufeff")
    first = text.lstrip().partition("\n")[0].rstrip("\r")
    said = _SEPARATOR_LINE.fullmatch(first)
    if said is not None:
        separator = said[1]
    elif separator is None:
        plain = re.sub(r'"[^"]*"', "", first)  # a name in quotes may have any of them
        separator = next((mark for mark in ",;\t" if mark in plain), ",")
    csv.field_size_limit(_LONGEST_CELL)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        if said is not None:
            next(row for row in rows if row)
        header = next((row for row in rows if any(row)), None)
        if header is None:
            return
        names = _names(header, path)
        while (row := next(rows, None)) is not None:
            where = f"{path}:{rows.line_num}"
            if not any(row):
                continue
            if len(row) != len(names):
                what = f"has {len(row)} cells, and the first line names {len(names)} columns"
                fix = "put quotes around cells that contain the separator"
                yield FaultyRecord(where, DataError(what, where=where, fix=fix))
                continue
            values = {name: cell if cell else None for name, cell in zip(names, row, strict=True) if name}
            yield Record(values, rows.line_num, where)
    except csv.Error as error:
        where = f"{path}:{rows.line_num}"
        raise DataError(f"is not a table of text: {error}", where=where, fix="check its quotes") from None


def parquet_table(path: Path) -> Iterator[Record]:
    """The rows of a Parquet file.

    Raises:
        DataError: it is none.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise DataError(
            f"is not a Parquet file: {first_line(error)}", where=str(path), fix="write it again, e.g. with pyarrow"
        ) from None
    try:
        rows = table.to_pylist()
    except (ValueError, OverflowError) as error:
        what = f"has a value that Python cannot hold, such as a time of nanoseconds: {first_line(error)}"
        raise DataError(what, where=str(path), fix="write that column as text, or without it") from None
    for number, row in enumerate(rows, 1):
        yield Record(row, number, f"{path}, row {number}", filled=True)


def _names(header: list[str], path: str) -> list[str]:
    names = [name.strip() for name in header]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"its first line names the column {twice!r} twice", where=path, fix="rename one of them")
    return names
