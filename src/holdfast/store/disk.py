"""Room on disks: how much there is, and errors of writing in one line that says how much is missing where."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.errors import HoldfastError, RunError

_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))

_OF_RUST = re.compile(r"\(os error (\d+)\)")
"""Libraries in Rust, such as safetensors and tokenizers, raise errors of the system as errors of their own."""


def size_text(size: int) -> str:
    """A number of bytes for people, rounded up, so that freeing as much is enough."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{-(-size * 10 // unit) / 10:.1f} {name}"
    return f"{size} bytes"


def free_bytes(path: Path) -> int:
    """How many bytes a file at a path, which need not exist, can have."""
    return shutil.disk_usage(_existing(path)).free


def mount_point(path: Path) -> Path:
    """Where the file system of a path, which need not exist, is mounted."""
    place = _existing(path).resolve()
    while not os.path.ismount(place):
        place = place.parent
    return place


def _existing(path: Path) -> Path:
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return place


def require_room(needed: int, path: Path, what: str) -> None:
    """Check that there is room before something is written.

    Args:
        needed: bytes.
        path: of the file or folder that is going to be written.
        what: that needs the room, as the beginning of a sentence.

    Raises:
        RunError: there is less; it says how much is missing, and where.
    """
    free = free_bytes(path)
    if free < needed:
        place = mount_point(path)
        raise RunError(
            f"{what} needs {size_text(needed)} of disk space, and {size_text(free)} are free on {place}",
            where=str(path),
            fix=f"free {size_text(needed - free)} on {place}",
        )


def error_number(error: BaseException) -> int | None:
    """The system's number of an error, also of one that a library in Rust raised; None if it is no error of the
    system."""
    if isinstance(error, OSError):
        return error.errno
    found = _OF_RUST.search(str(error)) if isinstance(error, Exception) else None
    return int(found[1]) if found else None


def write_error(error: BaseException, number: int, what: str, where: Path, needed: int | None = None) -> RunError:
    """An error of writing in one line. Only where room is missing does it ask for room.

    Args:
        number: the system's number of the error.
        what: that was written, with its article.
        where: the file or folder.
        needed: bytes that it takes, if they are known.
    """
    named = getattr(error, "filename", None)
    where = Path(os.fsdecode(named)) if isinstance(named, str | bytes | os.PathLike) and named else where
    reason = f"{what} cannot be written: {os.strerror(number)}"
    if number == errno.ENOSPC:
        free, place = free_bytes(where), mount_point(where)
        if needed is not None:
            reason += f", it needs {size_text(needed)} and {size_text(free)} are free"
        missing = size_text(needed - free) if needed is not None and needed > free else "some disk space"
        return RunError(reason, where=str(where), fix=f"free {missing} on {place}")
    if number == errno.EDQUOT:
        return RunError(reason, where=str(where), fix=f"free some of your quota on {mount_point(where)}")
    if number == errno.EFBIG:
        return RunError(reason, where=str(where), fix="raise the limit on the size of files, see `ulimit -f`")
    fixes = {
        errno.EACCES: "make its folder writable",
        errno.EPERM: "make its folder writable",
        errno.EROFS: "write to another disk: this one is read-only",
        errno.ENOENT: "its folder was removed meanwhile; bring it back",
        errno.EIO: "check the disk",
    }
    return RunError(reason, where=str(where), fix=fixes.get(number, "write elsewhere"))


@contextmanager
def writing(what: str, where: Path, needed: int | None = None) -> Iterator[None]:
    """Turn errors of the system into one line. Arguments as for `write_error`.

    Raises:
        RunError: it cannot be written.
    """
    try:
        yield
    except HoldfastError:
        raise
    except Exception as error:
        number = error_number(error)
        if number is None:
            raise
        raise write_error(error, number, what, where, needed) from error
