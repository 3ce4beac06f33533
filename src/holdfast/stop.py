"""A polite end: SIGTERM, or Ctrl-C once, asks a run to save itself and end. Importable without torch."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_asked: list[int] = []


class Stopped(KeyboardInterrupt):
    """A run that was asked to end, and has saved what it needs to go on.

    Args:
        signal_number: what asked for it; the exit code is 128 more, as shells count.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.code = 128 + signal_number


@contextmanager
def listening() -> Iterator[None]:
    """Within it, a first signal is noted for `asked` and `poll`; a second Ctrl-C interrupts at once, as ever.

    Handlers belong to the main thread; in another one nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _asked.clear()
    for number in SIGNALS:
        signal.signal(number, _note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(number: int, _: FrameType | None) -> None:
    if number == signal.SIGINT and _asked:
        raise KeyboardInterrupt
    _asked.append(number)


def asked() -> int:
    """The number of the signal that asked for an end, or 0."""
    return _asked[0] if _asked else 0


def poll() -> None:
    """Raise `Stopped` where an end was asked for; called wherever work can be left without loss."""
    if _asked:
        raise Stopped(_asked[0])
