"""Files as records, by the type that their name says, packed ones too."""

import bz2
import codecs
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from holdfast.errors import DataError
from holdfast.store.regular import refuse_irregular
from holdfast.tasks.readers.json_text import json_records
from holdfast.tasks.readers.record import FaultyRecord, Record, first_line
from holdfast.tasks.readers.tables import parquet_table, text_table

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")

PACKED: Mapping[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}

_OTHER_PACKED = {".zst": "zstd -d", ".zip": "unzip", ".lz4": "lz4 -d", ".7z": "7z x"}

_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""By the first bytes of a file. Those of UTF-32 begin with those of UTF-16, so they come first."""


def read_file(path: Path, split: str | None = None) -> list[Record | FaultyRecord]:
    """All records of a file, the faulty ones too.

    Args:
        path: of the file.
        split: the list that is meant if a JSON object wraps several, such as `train`.

    Raises:
        DataError: the file is missing, empty, of another type, or does not have the format that its name says.
    """
    if os.path.isdir(path):  # unlike `Path.is_dir`, false for a path that cannot be looked up
        raise DataError("is a folder, not a file", where=str(path), fix="use `dataset: FOLDER` with `train: SPLIT`")
    packing = path.suffix.lower()
    if packing in _OTHER_PACKED:
        raise DataError(
            f"is packed as {packing!r}, which is not read",
            where=str(path),
            fix=f"unpack it with `{_OTHER_PACKED[packing]} {path.name}`",
        )
    packing = packing if packing in PACKED else ""
    suffix = Path(path.name[: len(path.name) - len(packing)]).suffix.lower()
    if suffix not in SUFFIXES or (packing and suffix == ".parquet"):
        what = f"has an unknown file type {suffix + packing!r}"
        raise DataError(what, where=str(path), fix=f"use one of {', '.join(SUFFIXES)}")
    refuse_irregular(path, DataError, missing="check the path in the configuration")
    try:
        records = list(_records(path, suffix, packing, split))
    except OSError as error:
        fix = "check its permissions" if isinstance(error, PermissionError) else "write the file again"
        raise DataError(f"cannot be read: {first_line(error)}", where=str(path), fix=fix) from None
    except UnicodeDecodeError as error:
        raise DataError(f"cannot be read: {first_line(error)}", where=str(path), fix="save it as UTF-8") from None
    if not records:
        raise DataError("has no records", where=str(path), fix="write one example per line or row")
    return records


def _records(path: Path, suffix: str, packing: str, split: str | None) -> Iterator[Record | FaultyRecord]:
    if suffix == ".parquet":
        return parquet_table(path)
    text = _decoded(_unpacked(path.read_bytes(), packing, str(path)), str(path))
    if suffix in (".csv", ".tsv"):
        return text_table(text, str(path), "\t" if suffix == ".tsv" else None)
    return json_records(text, str(path), split)


def _unpacked(data: bytes, packing: str, path: str) -> bytes:
    if not packing:
        return data
    try:
        return PACKED[packing](data)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"cannot be read: {first_line(error)}", where=path, fix="pack it again") from None


def _decoded(data: bytes, path: str) -> str:
    encoding = next((name for mark, name in _ENCODINGS if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in data[:100]:
        raise DataError("is not text, or text in UTF-16 without its mark", where=path, fix="save it as UTF-8")
    return data.decode(encoding)
