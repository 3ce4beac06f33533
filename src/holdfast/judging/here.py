"""Verifiers and environments that run in this process: those that were passed as objects, and `in_process: true`.

While one runs in the main thread, a second thread watches it. If it takes too long, or if a signal has asked the run to
stop, Python code and calls of the system are interrupted. Compiled code is not interrupted before it returns to Python;
if it takes `PATIENCE` times its limit, the process ends with the lines that it is at, and the run can be resumed from
its newest checkpoint. In another thread than the main one nothing is watched.
"""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

from holdfast import stop
from holdfast.errors import DataError
from holdfast.judging.failure import Failure, took_too_long
from holdfast.judging.load_function import LOAD_LIMIT, import_took_too_long, load_function

T = TypeVar("T")

GRACE = 3.0
"""Seconds that a verifier has to end after a signal has asked the run to stop."""

PATIENCE = 10
"""How many times its limit a call that cannot be interrupted may take."""

_LONGEST = 1e8

_SIGNAL = signal.SIGVTALRM
"""Interrupts the main thread. Verifiers with time limits of their own use SIGALRM."""

_TICK = 0.1


class TookTooLong(KeyboardInterrupt):
    """The time limit of an answer has passed. It is no `Exception`, so that user code does not handle it by chance."""


class Watch:
    """Interrupts calls that take too long, while it is `watching`. The second thread begins with the first call."""

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._is_on = False
        self._main = threading.main_thread()

    @contextlib.contextmanager
    def watching(self) -> Iterator["Watch"]:
        """Watch calls while the block runs."""
        with contextlib.ExitStack() as self._stack:
            yield self
        self._is_on = False

    def _begin(self) -> None:
        before = signal.signal(_SIGNAL, self._interrupt)
        self._stack.callback(signal.signal, _SIGNAL, before if before is not None else signal.SIG_DFL)
        ended = threading.Event()
        thread = threading.Thread(target=self._look_on, args=(ended,), daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(ended.set)
        self._is_on = True

    def call(self, function: Callable[[], T], seconds: float) -> T:
        """Call a function that a user wrote. The working directory is afterwards what it was.

        Raises:
            TookTooLong: it has been interrupted after its time.
            Stopped: it has been interrupted because a signal asked the run to stop.
        """
        if not self._is_on and threading.current_thread() is self._main:
            self._begin()
        directory, process = os.getcwd(), os.getpid()
        self._deadline = time.monotonic() + seconds
        if self._is_on and (stderr := sys.__stderr__) is not None:
            faulthandler.dump_traceback_later(min(PATIENCE * seconds, _LONGEST), exit=True, file=stderr)
        try:
            return function()
        finally:
            self._deadline = None
            # It has forked, and this is the child that it left. First, because faulthandler would wait for its thread,
            # which no child has.
            if os.getpid() != process:
                os._exit(0)
            faulthandler.cancel_dump_traceback_later()
            with contextlib.suppress(OSError):
                os.chdir(directory)

    def judgment(self, function: Callable[[], T], seconds: float | None, where: str) -> T | Failure:
        """What a function returns that judges; if it does not, why.

        Args:
            seconds: its time limit; None for a function of holdfast's own, which is not watched.
            where: names what is judged.
        """
        try:
            return function() if seconds is None else self.call(function, seconds)
        except TookTooLong:
            return took_too_long(seconds or 0.0, where)
        except DataError as error:
            return Failure("error", error)

    def _look_on(self, ended: threading.Event) -> None:
        asked_since: float | None = None
        while not ended.wait(_TICK):
            now, deadline = time.monotonic(), self._deadline
            if stop.asked() and asked_since is None:
                asked_since = now
            late = deadline is not None and now > deadline
            if deadline is not None and (late or (asked_since is not None and now > asked_since + GRACE)):
                signal.pthread_kill(self._main.ident or 0, _SIGNAL)

    def _interrupt(self, _: int, __: FrameType | None) -> None:
        if self._deadline is None:  # it has just ended
            return
        stop.poll()
        raise TookTooLong


def load_here(name: str, where: str, arguments: str) -> Any:
    """A function of a user's, imported in this process. Arguments are those of `load_function`.

    Raises:
        ConfigError: it cannot be imported, or its import takes too long.
    """
    try:
        with Watch().watching() as watch:
            return watch.call(lambda: load_function(name, where, arguments), LOAD_LIMIT)
    except TookTooLong:
        raise import_took_too_long(where) from None
