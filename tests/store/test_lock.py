"""`holdfast.store.lock`: one process writes a folder, and another is told which; a dead one's lock is taken over."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import RunError
from holdfast.store import lock as locks
from holdfast.store.lock import RunLock
from holdfast.store.mounts import Mount

CONTEXT = multiprocessing.get_context("fork")


def _hold(folder: Path, connection: Any) -> None:
    lock = RunLock(folder)
    lock.acquire()
    connection.send(os.getpid())
    connection.recv()
    lock.release()


class Holder:
    """Another process that holds the lock of a folder."""

    def __init__(self, folder: Path) -> None:
        self.connection, other = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_hold, args=(folder, other))
        self.process.start()
        self.pid = self.connection.recv()

    def end(self) -> None:
        self.connection.send("")
        self.process.join()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.process.join()


def test_another_process_is_told_who_writes(tmp_path: Path) -> None:
    holder, lock = Holder(tmp_path), RunLock(tmp_path)
    since = json.loads(lock.path.read_text())["since"]
    says = f"{tmp_path}: is being written by process {holder.pid} on {socket.gethostname()} since {since} "
    for attempt in (lock.acquire, lock.refuse_live):
        with pytest.raises(RunError) as raised:
            attempt()
        assert str(raised.value).startswith(says)
    assert not lock.is_held
    holder.end()
    lock.acquire()
    assert lock.is_held
    lock.release()
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    Holder(tmp_path).kill()
    lock = RunLock(tmp_path)
    assert lock.path.exists()
    lock.refuse_live()
    lock.acquire()
    assert json.loads(lock.path.read_text())["pid"] == os.getpid()
    lock.release()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"pid": -1, "host": "a", "since": "b"}', "\0" * 9, pytest.param("[" * 4000, id="deep")],
)
def test_a_damaged_lock_file_is_taken_over(tmp_path: Path, content: str) -> None:
    (tmp_path / ".lock").write_text(content)
    lock = RunLock(tmp_path)
    lock.acquire()
    lock.release()


def test_the_same_process_cannot_have_it_twice(tmp_path: Path) -> None:
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.acquire()
    for attempt in (second.acquire, second.refuse_live):
        with pytest.raises(RunError, match=f"process {os.getpid()} "):
            attempt()
    second.release()
    assert first.path.exists()
    with pytest.raises(AssertionError):  # the attempts have not ended the first one
        _assert_free(tmp_path)
    first.release()
    _assert_free(tmp_path)


def _assert_free(folder: Path) -> None:
    process = CONTEXT.Process(target=_acquire, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == 0


def _acquire(folder: Path) -> None:
    locks._held.clear()
    RunLock(folder).acquire()


def test_a_forked_process_neither_has_the_lock_nor_ends_it(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.acquire()
    process = CONTEXT.Process(target=lock.release)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert lock.path.exists()
    with pytest.raises(AssertionError):
        _assert_free(tmp_path)
    lock.release()


def test_of_many_that_want_it_at_once_one_gets_it(tmp_path: Path) -> None:
    queue: Any = CONTEXT.SimpleQueue()
    start, end = CONTEXT.Event(), CONTEXT.Event()
    processes = [CONTEXT.Process(target=_race, args=(tmp_path, start, end, queue)) for _ in range(8)]
    for process in processes:
        process.start()
    start.set()
    outcomes = [queue.get() for _ in processes]
    end.set()
    for process in processes:
        process.join()
    assert outcomes.count("has it") == 1
    assert outcomes.count("refused") == 7


def _race(folder: Path, start: Any, end: Any, queue: Any) -> None:
    lock = RunLock(folder)
    start.wait()
    try:
        lock.acquire()
    except RunError:
        queue.put("refused")
        return
    queue.put("has it")
    end.wait()
    lock.release()


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_a_folder_that_is_removed_or_replaced_is_noticed(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    lock = RunLock(folder)
    lock.acquire()
    lock.check()
    folder.rename(tmp_path / "moved")
    if change == "replaced":
        folder.mkdir()
    with pytest.raises(RunError, match="was removed or replaced while the run was writing it"):
        lock.check()
    lock.release()
    assert folder.exists() == (change == "replaced")


@pytest.mark.parametrize("kind", ["link", "FIFO"])
def test_a_lock_that_is_no_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "target").write_text("kept")
    if kind == "link":
        (tmp_path / ".lock").symlink_to(tmp_path / "target")
    else:
        os.mkfifo(tmp_path / ".lock")
    with pytest.raises(RunError, match="symbolic link" if kind == "link" else "not a regular file"):
        RunLock(tmp_path).acquire()
    assert (tmp_path / "target").read_text() == "kept"


def _owner(**changes: Any) -> str:
    return json.dumps(locks._this_process() | changes)


def _without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)


def _local_nfs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "mount_of", lambda path: Mount("/mnt", "nfs", frozenset({"nolock"})))


@pytest.mark.parametrize("situation", [_without_locks, _local_nfs])
def test_where_the_file_system_does_not_lock_for_all_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, situation: Any
) -> None:
    situation(monkeypatch)
    lock = RunLock(tmp_path)
    with pytest.warns(UserWarning, match="does not lock for other machines"):
        lock.acquire()
    lock.release()
    lock.path.write_text(_owner(host="another", pid=7))
    with pytest.raises(RunError, match=rf"process 7 on another .* does not lock across machines.*remove {lock.path}"):
        lock.acquire()
    lock.path.write_text(_owner(pid=os.getppid(), start=locks._start(os.getppid())))
    with pytest.raises(RunError, match=f"is being written by process {os.getppid()}"):
        lock.acquire()
    for ended in ({"pid": os.getppid(), "start": "1"}, {"boot": "another"}, {"pid": 2**22 - 1}):
        lock.path.write_text(_owner(**ended))
        with pytest.warns(UserWarning, match="does not lock"):
            lock.acquire()
        lock.release()


def test_where_it_locks_for_all_the_lock_of_a_dead_machine_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(_owner(host="another"))
    lock = RunLock(tmp_path)
    lock.acquire()
    lock.release()
