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


def test_every_process_stops_for_the_signal_of_one() -> None:
    stop.poll_together(lambda own: own)
    with pytest.raises(stop.Stopped) as stopped:
        stop.poll_together(lambda own: max(own, signal.SIGTERM))  # another process was asked
    assert stopped.value.code == 128 + signal.SIGTERM
