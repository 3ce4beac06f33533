"""SIGTERM, SIGHUP or one Ctrl-C asks a run to save and stop. Importable without torch.

The signal is only noted. The run checks for it where it can stop without losing work.

A signal may reach one of several processes only, and the others may be busy with their shares of the samples for hours.
So each writes on a board that it was asked, and looks there once a second whether another was. A second thread does
both, because Python's handlers do not run while the main thread waits for other processes.
"""

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

LOOKS_EVERY = 1.0
"""Seconds between two looks at the board."""

_received: list[int] = []
_heard: list[int] = []
"""Signals that other processes of the run have received."""

_times_shared = 0


class Board(Protocol):
    """What several processes can write on and read, such as torch's stores. It raises RuntimeError if it is gone."""

    def set(self, key: str, value: str, /) -> None: ...

    def check(self, keys: list[str], /) -> bool: ...

    def get(self, key: str, /) -> bytes: ...


class Stopped(KeyboardInterrupt):
    """The run stopped because a signal asked for it. It has saved what `resume` needs.

    Args:
        signal_number: the signal. The exit code is 128 plus this number, which is the shell's convention.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.code = 128 + signal_number


@contextmanager
def listening(board: Board | None = None) -> Iterator[None]:
    """Note the first signal for `asked` and `poll` while the block runs. A second Ctrl-C interrupts at once.

    SIGHUP stays ignored if it is: under `nohup` a run goes on when its terminal closes.

    Only the main thread can install signal handlers. In any other thread this changes nothing.

    Args:
        board: of the processes that work together, which must all listen; None for a process alone. What one of them
            receives, all note.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _received.clear()
    _heard.clear()
    for number in SIGNALS:
        if number != signal.SIGHUP or before[number] != signal.SIG_IGN:
            signal.signal(number, _note)
    try:
        with _sharing(board):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _sharing(board: Board | None) -> Iterator[None]:
    """Tell the other processes what this one receives while the block runs, and note what they have received."""
    if board is None:
        yield
        return
    global _times_shared
    _times_shared += 1  # the same number in all processes; what was written the last time does not count
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    thread = threading.Thread(target=_share, args=(board, f"stop {_times_shared}", read), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(write, b"\0")  # closing it would not do: a process that a verifier has forked may hold it too
        thread.join()
        os.close(read)
        os.close(write)


def _share(board: Board, key: str, read_fd: int) -> None:
    """Write the first signal whose number comes through a pipe on the board, or note what stands there, until a 0."""
    pipe = select.poll()
    pipe.register(read_fd, select.POLLIN)
    told = ended = False
    try:
        while not ended:
            numbers = os.read(read_fd, 64) if pipe.poll(1000 * LOOKS_EVERY) else b""
            ended = 0 in numbers
            own = [number for number in numbers if number in SIGNALS]  # other handlers' signals come through it too
            if own and not told:
                board.set(key, str(own[0]))
                told = True
            if not told and not _heard and board.check([key]):
                _heard.append(int(board.get(key)))
    except RuntimeError:  # the process with the board has ended, so this one is about to notice
        return


def _note(number: int, _: FrameType | None) -> None:
    if number == signal.SIGINT and _received:
        raise KeyboardInterrupt
    _received.append(number)


def asked() -> int:
    """The number of the signal that asked this process to stop, or another one of its run; or 0."""
    return next(iter((*_received, *_heard)), 0)


def poll() -> None:
    """Raise `Stopped` if the run was asked to stop. Call it where work can be left without loss."""
    if number := asked():
        raise Stopped(number)


def poll_together(highest: Callable[[int], int]) -> None:
    """Raise `Stopped` on every process of a run if any of them was asked to stop.

    All processes must call it at the same point. A signal may reach only one of them, or reach them at different steps,
    and a process that stopped alone would leave the others waiting in their next collective operation.

    Args:
        highest: the maximum of a number over all processes.
    """
    if number := highest(asked()):
        raise Stopped(number)
