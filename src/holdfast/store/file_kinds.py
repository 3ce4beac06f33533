"""What kinds of files there are, in words. Opening some of them does harm, or waits for ever."""

import os
import stat
from pathlib import Path

REGULAR, FOLDER = "a regular file", "a folder"

_SPECIAL = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)


def kind_of(mode: int) -> str:
    """The kind of file that a mode, as `os.stat` gives it, is of."""
    if stat.S_ISREG(mode):
        return REGULAR
    if stat.S_ISDIR(mode):
        return FOLDER
    return next((name for is_kind, name in _SPECIAL if is_kind(mode)), "a special file")


def kind_at(path: str | Path) -> str:
    """The kind of file at a path, which may be a symbolic link; "" for nothing."""
    try:
        return kind_of(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return ""
