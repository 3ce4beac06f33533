"""Files and folders that are replaced in one step: a killed process leaves no half-written one.

A power cut leaves none either: what replaces something is on disk before it does.
"""

import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from holdfast.errors import RunError
from holdfast.store.disk import writing
from holdfast.store.durable import flush_folder, flush_tree, make_folder, replace
from holdfast.store.file_kinds import FOLDER, REGULAR, kind_at
from holdfast.store.regular import read_text

HALF_WRITTEN = (
    ".*.json.*",
    ".*.jsonl.*",
    ".*.yaml.*",
    ".*.html.*",
    "*/.*.json.*",
    "models/.stage-*",
    "checkpoints/.*.tmp",
    "kept-weights/.*.tmp",
)
"""Name patterns of unfinished files and folders. They are renamed when they are complete."""


def refuse_special(path: Path) -> None:
    """Check that a file may be written to a path: that nothing is there, or a regular file, which it replaces.

    Raises:
        RunError: a device, a folder, a symbolic link or another special file is there.
    """
    if (kind := kind_at(path)) not in ("", REGULAR):
        raise RunError(f"is {kind}, and only a regular file is replaced", where=str(path), fix="name another file")


_LARGEST = 2**31
"""Bytes of a JSON file of a run: items, samples and answers of all sets."""


def write_text(path: Path, text: str) -> None:
    """Replace a regular file in one step: readers see the old text or the new one, never a part.

    The file gets the permissions that the user's umask leaves.

    Raises:
        RunError: something else than a regular file is at this path, or the file cannot be written.
    """
    write_bytes(path, encoded(text))


def encoded(text: str) -> bytes:
    """Text as it is written. Half a character, which names of files may have, is written as JSON writes it."""
    return text.encode("utf-8", "backslashreplace")


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a regular file in one step; see `write_text`."""
    refuse_special(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with writing("the file", path, len(content)):
        make_folder(path.parent)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            replace(temporary, path)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename is not None:
                error.filename = str(path)  # not the temporary name, which tells nobody anything
            raise


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON, in one step. NaN and infinities raise ValueError."""
    write_text(path, as_json_text(value))


def as_json_text(value: Any) -> str:
    """Plain data as the text that `write_json` writes."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


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
    """A temporary folder next to `path`. It replaces `path` when the block ends, and is removed if the block raises.

    Its files get the permissions that the user's umask leaves, whatever library wrote them, and are flushed to disk.

    Raises:
        RunError: something else than a folder is at this path.
    """
    if (kind := kind_at(path)) not in ("", FOLDER):
        raise RunError(f"is {kind}, and only a folder is replaced", where=str(path), fix="name another folder")
    make_folder(path.parent)
    mark = uuid.uuid4().hex[:8]
    fresh, stale = path.with_name(f".{path.name}.{mark}.new"), path.with_name(f".{path.name}.{mark}.old")
    fresh.mkdir()
    try:
        yield fresh
        equal_modes(fresh)
        flush_tree(fresh)
        if path.exists():
            os.replace(path, stale)
        os.replace(fresh, path)
        flush_folder(path.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(stale, ignore_errors=True)


def equal_modes(folder: Path) -> None:
    """Give all files in a new folder the permissions that the umask leaves; safetensors lets only the owner read."""
    mode = folder.stat().st_mode & 0o666  # the umask itself can only be read by changing it for a moment
    for root, _, files in os.walk(folder):
        for name in files:
            os.chmod(Path(root, name), mode)


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
