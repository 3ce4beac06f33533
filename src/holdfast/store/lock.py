"""The lock of a run directory: one process writes, and another is told which.

It is a POSIX record lock on the file `.lock`. The system ends it with the process, however the process ends, so nobody
waits for a dead one; and NFS passes it on to all machines. Where a file system does not, the lock says so, and holds on
one machine.
"""

import errno
import fcntl
import json
import os
import socket
import stat
import threading
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from holdfast.errors import RunError
from holdfast.store.disk import writing
from holdfast.store.mounts import mount_of

NAME = ".lock"

_NOT_LOCKABLE = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTSUP})
"""What file systems say that know no locks."""

_held: dict[tuple[int, int], Mapping[str, Any]] = {}
"""By device and inode: the owner records of the locks that this process holds. The system would give a process a second
lock on the same file, and end both when either is closed."""

_guard = threading.Lock()


class RunLock:
    """The right to write into a folder.

    Args:
        folder: an existing folder when `acquire` is called.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / NAME
        self._descriptor: int | None = None
        self._owner = 0
        self._key = (0, 0)
        self._folder_key = (0, 0)

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock, in this process and not in one that it has forked."""
        return self._descriptor is not None and self._owner == os.getpid()

    def acquire(self) -> None:
        """Take the lock, also over from a process that has died.

        Raises:
            RunError: another process has it, or may have it; or the folder cannot be written.
        """
        with _guard:
            mount = mount_of(self.folder)
            while True:
                self._refuse_own()
                with writing("the lock", self.path):
                    descriptor = self._open()
                try:
                    is_locked = self._lock(descriptor)
                    owner = _read(descriptor)
                    if not (is_locked and mount.locks_for_all):
                        self._refuse_others(owner, f"{mount.kind or 'its file system'} on {mount.place}")
                    key = _key(os.fstat(descriptor))
                    if _key_at(self.path) != key:
                        os.close(descriptor)  # its owner has ended and removed it meanwhile
                        continue
                    mine = _this_process()
                    with writing("the lock", self.path):
                        os.ftruncate(descriptor, 0)
                        os.pwrite(descriptor, json.dumps(mine).encode(), 0)
                except BaseException:
                    os.close(descriptor)
                    raise
                break
            _held[key] = mine
            self._descriptor, self._owner, self._key = descriptor, os.getpid(), key
            self._folder_key = _key(self.folder.stat())
        if not (is_locked and mount.locks_for_all):
            warnings.warn(
                f"{self.folder}: its file system ({mount.kind or 'of an unknown kind'} on {mount.place}) does not lock "
                "for other machines, so resume this run on one machine at a time",
                stacklevel=2,
            )

    def release(self) -> None:
        """Give the lock back. Does nothing where it is not held, as in a forked process."""
        if self._descriptor is None or not self.is_held:
            return
        with _guard:
            try:
                if _key_at(self.path) == self._key:
                    self.path.unlink()
            except OSError:  # the folder was removed, or can no longer be written: the lock ends all the same
                pass
            os.close(self._descriptor)
            _held.pop(self._key, None)
            self._descriptor = None

    def check(self) -> None:
        """Check, while the lock is held, that the folder is still the one that was locked.

        Raises:
            RunError: it was removed or replaced.
        """
        if not self.is_held:
            return
        if _key_at(self.folder) != self._folder_key:
            what = "the directory was removed or replaced while the run was writing it"
            raise RunError(what, where=str(self.folder), fix="bring it back and resume, or run again")

    def refuse_live(self) -> None:
        """Check that no live process has the lock, without taking it.

        Raises:
            RunError: one has it.
        """
        with _guard:
            self._refuse_own()
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:  # there is none, or it is none
                return
            try:
                self._lock(descriptor)
            finally:
                os.close(descriptor)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(self.path, flags, 0o666)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise RunError("is a symbolic link", where=str(self.path), fix="remove it") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise RunError("is not a regular file", where=str(self.path), fix="remove it")
        return descriptor

    def _lock(self, descriptor: int) -> bool:
        """Lock the open file; False if its file system knows no locks."""
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise self._taken(_read(descriptor)) from None
            if error.errno not in _NOT_LOCKABLE:
                raise
            return False
        return True

    def _refuse_own(self) -> None:
        """Refuse if this process has the lock already. The file must not even be opened: closing it ends the lock."""
        key = _key_at(self.path)
        owner = None if key is None else _held.get(key)
        if owner is not None and owner["pid"] == os.getpid():
            raise self._taken(owner)

    def _refuse_others(self, owner: Mapping[str, Any] | None, place: str) -> None:
        """Refuse if the file names an owner who may be alive: the system cannot tell where locks are not shared."""
        if owner is None or _has_ended(owner):
            return
        if _is_here(owner):
            raise self._taken(owner)
        raise RunError(
            f"{_name(owner)} may be writing it; {place} does not lock across machines, so that cannot be seen here",
            where=str(self.folder),
            fix=f"if that process has ended, remove {self.path}",
        )

    def _taken(self, owner: Mapping[str, Any] | None) -> RunError:
        name = "another process" if owner is None else _name(owner)
        return RunError(f"is being written by {name}", where=str(self.folder), fix="wait until it ends, or stop it")


def _this_process() -> dict[str, Any]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since, "boot": _boot(), "start": _start("self")}


def _boot() -> str:
    """Names the time since this machine started; process numbers before and after mean nothing to each other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start(process: int | str) -> str:
    """When a process of this machine started, in its own units; "" for none. It tells two with one number apart."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_here(owner: Mapping[str, Any]) -> bool:
    return owner["host"] == socket.gethostname()


def _has_ended(owner: Mapping[str, Any]) -> bool:
    """Whether an owner is certain to have ended: a process of this machine that is gone."""
    if not _is_here(owner):
        return False
    if owner.get("boot") != _boot():
        return True
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return bool(owner.get("start")) and owner["start"] != _start(owner["pid"])


def _name(owner: Mapping[str, Any]) -> str:
    return f"process {owner['pid']} on {owner['host']} since {owner['since']}"


def _read(descriptor: int) -> Mapping[str, Any] | None:
    """The owner that a lock file names; None for none, as while one writes its name."""
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        is_owner = isinstance(owner["pid"], int) and owner["pid"] > 0
        return owner if is_owner and all(isinstance(owner[key], str) for key in ("host", "since")) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _key_at(path: Path) -> tuple[int, int] | None:
    """Device and inode of what is at a path; None for nothing."""
    try:
        return _key(path.stat())
    except OSError:
        return None


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
