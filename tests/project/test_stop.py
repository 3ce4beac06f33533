"""`holdfast.stop`: a signal is noted while a run listens, and every process of the run stops for the signal of one."""

import os
import signal
import threading

import pytest

from holdfast import stop


def test_a_signal_is_noted_and_raised_at_the_next_poll() -> None:
    with stop.listening():
        stop.poll()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked() == signal.SIGTERM
        with pytest.raises(stop.Stopped) as stopped:
            stop.poll()
    assert stopped.value.code == 128 + signal.SIGTERM


def test_a_terminal_that_closes_stops_a_run_unless_it_was_told_to_go_on() -> None:
    with stop.listening():
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.asked() == signal.SIGHUP
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        with stop.listening():
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.asked() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_interrupt_is_not_noted_but_raised() -> None:
    with stop.listening():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked() == signal.SIGINT
        with pytest.raises(KeyboardInterrupt) as interrupted:
            os.kill(os.getpid(), signal.SIGINT)
    assert not isinstance(interrupted.value, stop.Stopped)


def test_handlers_are_put_back_and_an_old_signal_is_forgotten() -> None:
    before = {number: signal.getsignal(number) for number in stop.SIGNALS}
    with stop.listening():
        os.kill(os.getpid(), signal.SIGTERM)
    assert {number: signal.getsignal(number) for number in stop.SIGNALS} == before
    with stop.listening():
        assert stop.asked() == 0


def test_another_thread_changes_no_handlers() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def listen() -> None:
        with stop.listening():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]


class Pinboard(dict[str, str]):
    """A board of this process alone."""

    def set(self, key: str, value: str) -> None:
        self[key] = value

    def check(self, keys: list[str]) -> bool:
        return keys[0] in self

    def get(self, key: str) -> bytes:  # type: ignore[override]
        return self[key].encode()


def test_what_a_process_receives_is_written_on_the_board_once() -> None:
    board = Pinboard()
    for number, _ in ((signal.SIGTERM, "first"), (signal.SIGINT, "second")):
        with stop.listening(board):
            signal.raise_signal(signal.SIGURG)  # no signal that asks to stop
            signal.raise_signal(number)
            signal.raise_signal(signal.SIGHUP)
    assert list(board.values()) == ["15", "2"], "each time under another key"
    assert signal.set_wakeup_fd(-1) == -1, "put back"


def test_what_another_process_has_received_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    was_read = threading.Event()

    class Written(Pinboard):
        def check(self, keys: list[str]) -> bool:
            return True

        def get(self, key: str) -> bytes:  # type: ignore[override]
            was_read.set()
            return b"15"

    monkeypatch.setattr(stop, "LOOKS_EVERY", 0.001)
    with stop.listening(Written()):
        assert was_read.wait(60)
    with pytest.raises(stop.Stopped) as stopped:
        stop.poll()
    assert stopped.value.code == 143
    with stop.listening(Pinboard()):
        stop.poll()


def test_a_board_that_is_gone_changes_nothing() -> None:
    class Gone(Pinboard):
        def check(self, keys: list[str]) -> bool:
            raise RuntimeError("connection reset")

    with stop.listening(Gone()):
        pass
    assert stop.asked() == 0


def test_every_process_stops_for_the_signal_of_one() -> None:
    stop.poll_together(lambda own: own)
    with pytest.raises(stop.Stopped) as stopped:
        stop.poll_together(lambda own: max(own, signal.SIGTERM))  # another process was asked
    assert stopped.value.code == 128 + signal.SIGTERM
