"""SIGTERM, SIGHUP or one Ctrl-C asks a run to save and stop. Importable without torch.

The signal is only noted. The run checks for it where it can stop without losing work.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_received: list[int] = []


class Stopped(KeyboardInterrupt):
    """The run stopped because a signal asked for it. It has saved what `resume` needs.

    Args:
        signal_number: the signal. The exit code is 128 plus this number, which is the shell's convention.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.code = 128 + signal_number


@contextmanager
def listening() -> Iterator[None]:
    """Note the first signal for `asked` and `poll` while the block runs. A second Ctrl-C interrupts at once.

    SIGHUP stays ignored if it is: under `nohup` a run goes on when its terminal closes.

    Only the main thread can install signal handlers. In any other thread this changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _received.clear()
    for number in SIGNALS:
        if number != signal.SIGHUP or before[number] != signal.SIG_IGN:
            signal.signal(number, _note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(number: int, _: FrameType | None) -> None:
    if number == signal.SIGINT and _received:
        raise KeyboardInterrupt
    _received.append(number)


def asked() -> int:
    """The number of the signal that asked this process to stop, or 0."""
    return _received[0] if _received else 0


def poll() -> None:
    """Raise `Stopped` if this process was asked to stop. Call it where work can be left without loss."""
    if _received:
        raise Stopped(_received[0])


def poll_together(highest: Callable[[int], int]) -> None:
    """Raise `Stopped` on every process of a run if any of them was asked to stop.

    All processes must call it at the same point. A signal may reach only one of them, or reach them at different steps,
    and a process that stopped alone would leave the others waiting in their next collective operation.

    Args:
        highest: the maximum of a number over all processes.
    """
    if number := highest(asked()):
        raise Stopped(number)
