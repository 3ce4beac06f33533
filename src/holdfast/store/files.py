"""Files and folders that are replaced in one step: a killed process leaves no half-written one."""

import json
import math
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from holdfast.errors import RunError
from holdfast.store.regular import read_text

HALF_WRITTEN = (
    ".*.json.*",
    ".*.yaml.*",
    ".*.html.*",
    "*/.*.json.*",
    "models/.stage-*",
    "checkpoints/.*.tmp",
    "kept-weights/.*.tmp",
)
"""Name patterns of unfinished files and folders. They are renamed when they are complete."""


_LARGEST = 2**31
"""Bytes of a JSON file of a run: items, samples and answers of all sets."""


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: readers see the old text or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        # Half a character, which names of files may have, is written as JSON writes it.
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON, in one step. NaN and infinities raise ValueError."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, *, damaged: str = "restore it from a copy") -> Any:
    """Read a JSON file of a run.

    Args:
        damaged: what to do if it is no JSON.

    Raises:
        RunError: the file is missing, is no regular file, or is not JSON.
    """
    missing = "check that this is a run directory of holdfast"
    text = read_text(path, RunError, largest=_LARGEST, missing=missing, damaged=damaged)
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise RunError("cannot be read: it is nested too deep", where=str(path), fix=damaged) from None
    except ValueError as error:
        raise RunError(f"cannot be read: {error}", where=str(path), fix=damaged) from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it has {name}, which is no JSON")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder next to `path`. It replaces `path` when the block ends, and is removed if the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    fresh, stale = path.with_name(f".{path.name}.{mark}.new"), path.with_name(f".{path.name}.{mark}.old")
    fresh.mkdir()
    try:
        yield fresh
        if path.exists():
            os.replace(path, stale)
        os.replace(fresh, path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(stale, ignore_errors=True)


def json_safe(value: Any) -> Any:
    """The value as plain JSON: NaN and infinities become null, tuples lists, NumPy numbers numbers, keys strings."""
    if isinstance(value, Mapping):
        return {str(k): json_safe(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_safe(v) for v in value]
    if hasattr(value, "tolist"):
        return json_safe(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
