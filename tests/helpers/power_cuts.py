"""What a disk holds after a power cut: a log of flushes and names, replayed without the bytes that were not flushed.

A process that is recorded notes the content of every file and folder when it is flushed. Before any change of its
files, a cut may happen. Two disks are then possible, and each is written as a folder:

- `strict`: nothing has reached the disk but what was flushed, neither bytes nor names. POSIX promises no more.
- `zeros`: all names and sizes have reached the disk, but of the bytes only those that were flushed. The others are NUL,
  as XFS and ext4 leave them.
"""

import os
import stat
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from interruptions import FILE_EVENTS

KINDS = ("strict", "zeros")

Inode = tuple[int, int]


class Disk:
    """What has been flushed of a folder and of all in it, by inode.

    Args:
        root: an existing folder. All that is in it counts as flushed at first.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[Inode, bytes] = {}
        self.folders: dict[Inode, dict[str, tuple[Inode, bool]]] = {}
        self._open: list[int] = []  # so that no inode is used for another file
        for folder, _, files in os.walk(root):
            self._note(folder)
            for name in files:
                self._note(os.path.join(folder, name))

    def _note(self, path: str) -> None:
        if not path.endswith(".lock"):
            descriptor = os.open(path, os.O_RDONLY)
            self.flushed(descriptor)
            os.close(descriptor)

    def flushed(self, descriptor: int) -> None:
        """Note what an open file or folder holds now."""
        status = os.fstat(descriptor)
        inode = (status.st_dev, status.st_ino)
        if inode not in self.files and inode not in self.folders:
            self._open.append(os.dup(descriptor))
        path = f"/proc/self/fd/{descriptor}"
        if stat.S_ISDIR(status.st_mode):
            self.folders[inode] = {
                entry.name: ((status.st_dev, entry.inode()), entry.is_dir(follow_symlinks=False))
                for entry in os.scandir(os.readlink(path))
            }
        else:
            self.files[inode] = Path(path).read_bytes()

    def write_strict(self, image: Path) -> None:
        """Write the disk on which only what was flushed has arrived."""
        status = self.root.stat()
        self._write_strict((status.st_dev, status.st_ino), image)

    def _write_strict(self, inode: Inode, image: Path) -> None:
        image.mkdir(parents=True)
        for name, (child, is_folder) in self.folders.get(inode, {}).items():
            if is_folder:
                self._write_strict(child, image / name)
            else:
                (image / name).write_bytes(self.files.get(child, b""))

    def write_zeros(self, image: Path) -> None:
        """Write the disk on which all names and sizes have arrived, but only the bytes that were flushed."""
        for folder, _, files in os.walk(self.root):
            target = image / os.path.relpath(folder, self.root)
            target.mkdir(parents=True)
            for name in files:
                status = os.stat(os.path.join(folder, name))
                known = self.files.get((status.st_dev, status.st_ino), b"")
                (target / name).write_bytes(known[: status.st_size].ljust(status.st_size, b"\0"))


def record(rank: int, *, root: str, images: str, chosen: Collection[int], log: str) -> None:
    """From now on, write what the disk may hold after a cut before some of the changes of files in a folder.

    Args:
        rank: of the process; only the first of several is recorded.
        root: the folder.
        images: a folder; `NUMBER-strict` and `NUMBER-zeros` are written into it.
        chosen: numbers of changes, from 1.
        log: a file that gets a line for each change.
    """
    if rank:
        return
    disk, seen, is_busy = Disk(Path(root)), 0, False

    def fsync(descriptor: int) -> None:
        nonlocal is_busy
        is_busy, before = True, is_busy
        disk.flushed(descriptor if isinstance(descriptor, int) else descriptor.fileno())
        is_busy = before

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen, is_busy
        if is_busy or event not in FILE_EVENTS:
            return
        path = arguments[0]
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(root):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        is_busy = True
        seen += 1
        with open(log, "a") as lines:
            lines.write(f"{seen} {event} {os.path.relpath(path, root)}\n")
        if seen in chosen:
            disk.write_strict(Path(images, f"{seen}-strict"))
            disk.write_zeros(Path(images, f"{seen}-zeros"))
        is_busy = False

    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(hook)
