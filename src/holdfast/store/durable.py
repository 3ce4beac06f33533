"""What is written here survives a power cut: files and folders are flushed to disk, with the entries that name them."""

import errno
import os
from pathlib import Path

_NOT_FOR_FOLDERS = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES, errno.EPERM})
"""What file systems say that cannot flush a folder, or not for this user. Then there is nothing more to do."""


def flush(path: str | Path) -> None:
    """Have the system write a file's content, or a folder's entries, to disk now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(path: str | Path) -> None:
    """Have the system write a folder's entries to disk now, where its file system can."""
    try:
        flush(path)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise


def flush_tree(folder: Path) -> None:
    """Flush everything in a folder, and the folder itself."""
    for root, _, files in os.walk(folder):
        for name in files:
            flush(Path(root, name))
        flush_folder(root)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, with the entries that name them. One that exists stays as it is."""
    missing, place = [], path
    while not os.path.lexists(place):
        missing.append(place)
        place = place.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        flush_folder(folder.parent)


def replace(source: Path, target: Path) -> None:
    """Rename a file or folder, and flush the folder that names it."""
    os.replace(source, target)
    flush_folder(target.parent)
