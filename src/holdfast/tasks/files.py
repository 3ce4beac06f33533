"""Records of files and datasets: what the rest of holdfast asks of the readers.

A record is one line of JSON Lines, one item of a JSON array, or one row of a table. It knows its file and line, and an
error in it is one line that names them.
"""

from pathlib import Path
from typing import Any

from holdfast.tasks.readers.examples import Reading, published_examples, records_to_examples
from holdfast.tasks.readers.faults import BadRecords
from holdfast.tasks.readers.file_types import SUFFIXES, read_file
from holdfast.tasks.readers.hub import read_dataset
from holdfast.tasks.readers.record import FaultyRecord, Record, first_line
from holdfast.tasks.readers.unread import unread_columns

__all__ = [
    "DEMONSTRATION_COLUMNS",
    "SUFFIXES",
    "BadRecords",
    "FaultyRecord",
    "Reading",
    "Record",
    "demonstration_text",
    "first_line",
    "published_examples",
    "read_dataset",
    "read_file",
    "read_records",
    "records_to_examples",
    "unread_columns",
]

DEMONSTRATION_COLUMNS = ("output_text", "golden_response", "completion")
"""Columns in which published task files have a demonstration, in the order of preference."""


def read_records(path: str | Path) -> list[Record]:
    """All records of a file: JSON Lines, JSON, CSV, TSV or Parquet.

    Raises:
        DataError: the file is missing, empty, of another type, or does not have the format that its name says; or a
            record cannot be read.
    """
    records = []
    for each in read_file(Path(path)):
        if isinstance(each, FaultyRecord):
            raise each.error
        records.append(each)
    return records


def demonstration_text(record: Record) -> Any:
    """The demonstration of a record of a published task file, as `records_to_examples` takes it; None if it has none.

    A list of lines is joined by newlines.
    """
    for column in DEMONSTRATION_COLUMNS:
        value = record.values.get(column)
        if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
            return "\n".join(value)
        if value is not None:
            return value
    return None
