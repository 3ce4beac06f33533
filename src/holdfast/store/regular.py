"""Files that are read whole. What is no regular file, such as a pipe without a writer, is refused, not waited for."""

import errno
import os
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast.store.file_kinds import REGULAR, kind_of


def refuse_irregular(path: Path, kind: type[HoldfastError], *, missing: str = "check the path") -> None:
    """Check that a path leads to a regular file.

    Args:
        path: of the file.
        kind: of the error.
        missing: what to do if there is no such file.

    Raises:
        HoldfastError: of `kind`: there is no such file, it is something else, or the path cannot be a file's.
    """
    where = str(path)
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise kind("no such file", where=where, fix=missing) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise kind("is a loop of symbolic links", where=where, fix="let the link lead to a file") from None
        raise kind(f"cannot be read: {error.strerror}", where=where, fix=_mend(error)) from None
    except ValueError:  # NUL, or a character that no file name has
        raise kind("no file can have this path", where=where, fix="remove its odd characters") from None
    if (found := kind_of(mode)) != REGULAR:
        fix = "name a file; save a pipe's output first"
        raise kind(f"cannot be read: it is {found}, not {REGULAR}", where=where, fix=fix)


def read_text(
    path: Path,
    kind: type[HoldfastError],
    *,
    largest: int,
    missing: str = "check the path",
    damaged: str = "save it as text in UTF-8",
) -> str:
    """The text of a file in UTF-8.

    Args:
        path, kind, missing: as for `refuse_irregular`.
        largest: bytes of a file that can be meant.
        damaged: what to do if it is not UTF-8.

    Raises:
        HoldfastError: of `kind`: as from `refuse_irregular`; or the file is larger, is not UTF-8, or cannot be read.
    """
    refuse_irregular(path, kind, missing=missing)
    where = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise kind(f"cannot be read: {error.strerror}", where=where, fix=_mend(error)) from None
    if len(data) > largest:
        what = f"has {len(data) / 2**20:.0f} MiB; at most {largest / 2**20:.0f} MiB are read"
        raise kind(what, where=where, fix="check that it is the right file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"cannot be read: byte {error.start} is not UTF-8"
        raise kind(what, where=where, fix=damaged) from None


def _mend(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return "check its permissions"
    if error.errno == errno.ENAMETOOLONG:
        return "shorten the path"
    return "check the disk and the path"
