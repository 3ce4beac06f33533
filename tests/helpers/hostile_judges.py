"""Verifiers and environments that do what none should. What a verifier does is the first word of the completion.

`CASES` lists them by kind. Each has what its judgment must be: a reward, `any` reward, `timeout`, any `failure`, or
words of the error.
"""

import contextlib
import ctypes
import gc
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.data.example import Example, Message, Verdict

LIMIT = 1.5
"""The time limit of these verifiers, in seconds."""


class Case(NamedTuple):
    """What a verifier does, and what its judgment must be."""

    does: Callable[[Example], Any]
    judgment: float | str
    is_long: bool = False
    """It is left out of a short run."""
    is_alone: bool = False
    """It changes what judges in its process, so that later answers to the same process fail too."""


def _raise(error: BaseException) -> None:
    raise error


def _forever(_: Example) -> None:
    while True:
        pass


def _deaf_to(*numbers: int) -> None:
    for number in numbers:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)


def _deaf_forever(_: Example) -> None:
    _deaf_to(*range(1, signal.NSIG))
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(60)


def _deadlock(_: Example) -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _many_threads(_: Example) -> float:
    for _number in range(50):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return 1.0


def _stuck_thread(_: Example) -> float:
    threading.Thread(target=time.sleep, args=(600,), daemon=False).start()
    return 1.0


def _crash_later(_: Example) -> float:
    threading.Timer(0.05, os._exit, (4,)).start()
    return 1.0


def _fork_and_return(_: Example) -> float:
    os.fork()
    return 1.0


def _fork_and_live(_: Example) -> float:
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    return 1.0


def _forks_that_end(_: Example) -> float:
    for _number in range(20):
        if os.fork() == 0:
            os._exit(3)
    return 1.0


def _program_that_lives(_: Example) -> float:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    return 1.0


def _pipe_numbers() -> list[int]:
    numbers = []
    for number in range(3, 1024):
        with contextlib.suppress(OSError):
            os.fstat(number)
            numbers.append(number)
    return numbers


def _close_all(_: Example) -> float:
    for number in _pipe_numbers():
        os.close(number)
    return 1.0


def _write_all(raw: bytes) -> float:
    for number in _pipe_numbers():
        with contextlib.suppress(OSError):
            os.set_blocking(number, False)
            os.write(number, raw)
    return 0.0


def _forge_on_stdout(_: Example) -> float:
    body = b'{"verdict": {"reward": 1.0, "feedback": "", "answer": null, "format_ok": true}}'
    sys.stdout.buffer.write(len(body).to_bytes(4, "big") + body)
    sys.stdout.flush()
    return 0.0


def _forge_without_nonce(_: Example) -> float:
    body = b'{"nonce": "00", "verdict": {"reward": 1.0, "feedback": "", "answer": null, "format_ok": true}}'
    return _write_all(len(body).to_bytes(4, "big") + body)


def _print_much(_: Example) -> float:
    for _number in range(200):
        sys.stdout.write("x" * 100_000)
    return 1.0


def _print_for_ever(_: Example) -> None:
    while True:
        print("x" * 10_000)


def _move(_: Example) -> float:
    os.chdir("/")
    return 1.0


def _move_to_nowhere(_: Example) -> float:
    folder = Path("to-be-removed")
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    os.rmdir(os.getcwd())
    return 1.0


def _change_example(example: Example) -> float:
    example.messages[0]["content"] = "another question"
    example.metadata.clear()  # type: ignore[attr-defined]
    if isinstance(example.answer, list):
        example.answer.append("more")
    return 1.0


def _change_environ(_: Example) -> float:
    os.environ.clear()
    return 1.0


def _break_json(_: Example) -> float:
    import json

    json.dumps = None  # type: ignore[assignment]
    return 1.0


def _break_open_files(_: Example) -> float:
    sys.stdout = sys.stderr = None  # type: ignore[assignment]
    return 1.0


def _change_verdicts(_: Example) -> Verdict:
    Verdict.__init__ = lambda self, *_, **__: None  # type: ignore[method-assign, misc]
    return Verdict(1.0)


def _altered_verdict(_: Example) -> Verdict:
    verdict = Verdict(1.0)
    object.__setattr__(verdict, "reward", "much")
    return verdict


def _alarm_left(_: Example) -> float:
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    return 1.0


def _remove_imports(_: Example) -> float:
    for name in [name for name in sys.modules if name.startswith("holdfast")]:
        del sys.modules[name]
    return 1.0


def _recursion(_: Example) -> Any:
    return _recursion(_)


def _endless_recursion(_: Example) -> float:
    sys.setrecursionlimit(10**9)
    return float(str(_recursion(_)))


def _collect_workers(_: Example) -> float:
    for each in gc.get_objects():
        if type(each).__name__ == "_Worker":
            each._functions.clear()
    return 1.0


def _many_files(_: Example) -> float:
    with contextlib.suppress(OSError):
        while True:
            os.dup(0)
    return 1.0


def _kill_group(_: Example) -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _kill_waiting_parent(_: Example) -> float:
    os.kill(os.getppid(), signal.SIGKILL)
    return 1.0


def _listen(_: Example) -> float:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.accept()
    return 1.0


class _Odd:
    def __float__(self) -> float:
        os._exit(9)

    def __repr__(self) -> str:
        raise RuntimeError


class _HostileError(Exception):
    def __str__(self) -> str:
        raise SystemExit(0)


class _NotADict(dict):  # type: ignore[type-arg]
    def __getitem__(self, key: object) -> Any:
        raise SystemExit


ENDS: Mapping[str, Case] = {
    "exit": Case(lambda _: sys.exit(), "SystemExit"),
    "exit-0": Case(lambda _: sys.exit(0), "SystemExit"),
    "exit-text": Case(lambda _: sys.exit("bye"), "SystemExit: bye"),
    "quit": Case(lambda _: _raise(SystemExit(None)), "SystemExit"),
    "interrupt": Case(lambda _: _raise(KeyboardInterrupt()), "KeyboardInterrupt"),
    "generator-exit": Case(lambda _: _raise(GeneratorExit()), "GeneratorExit"),
    "base-exception": Case(lambda _: _raise(BaseException("odd")), "BaseException: odd"),
    "hard-exit": Case(lambda _: os._exit(0), "exited with code 0"),
    "hard-exit-3": Case(lambda _: os._exit(3), "exited with code 3"),
    "abort": Case(lambda _: os.abort(), "SIGABRT"),
    "segfault": Case(lambda _: ctypes.string_at(0), "SIGSEGV"),
    "bus-error": Case(lambda _: os.kill(os.getpid(), signal.SIGBUS), "SIGBUS"),
    "kill-itself": Case(lambda _: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
    "terminate-itself": Case(lambda _: os.kill(os.getpid(), signal.SIGTERM), "SIGTERM"),
    "hang-up-itself": Case(lambda _: os.kill(os.getpid(), signal.SIGHUP), "SIGHUP"),
    "interrupt-itself": Case(lambda _: os.kill(os.getpid(), signal.SIGINT), "KeyboardInterrupt"),
    "kill-group": Case(_kill_group, "its process"),
    "stop-itself": Case(lambda _: os.kill(os.getpid(), signal.SIGSTOP), "timeout"),
    "exec": Case(lambda _: os.execv("/bin/true", ["true"]), "its process"),
    "exec-sleep": Case(lambda _: os.execv("/bin/sleep", ["sleep", "60"]), "timeout"),
    "exception-exits": Case(lambda _: _raise(_HostileError()), "it raised"),
    "deep-recursion": Case(_recursion, "RecursionError"),
    "endless-recursion": Case(_endless_recursion, "failure", is_long=True),
    "crash-later": Case(_crash_later, 1.0),
    "kill-waiting-parent": Case(_kill_waiting_parent, 1.0),
}
"""The process ends, or seems to."""

HANGS: Mapping[str, Case] = {
    "sleep": Case(lambda _: time.sleep(600), "timeout"),
    "loop": Case(_forever, "timeout"),
    "deaf": Case(_deaf_forever, "timeout"),
    "deadlock": Case(_deadlock, "timeout"),
    "power": Case(lambda _: 9**9**9, "timeout"),
    "compiled-loop": Case(lambda _: sum(iter(lambda: 0, 1)), "timeout", is_long=True),
    "pattern": Case(lambda _: __import__("re").match("(a+)+$", "a" * 60 + "b"), "timeout", is_long=True),
    "input": Case(lambda _: float(len(sys.stdin.read())), 0.0),
    "read-pipe": Case(lambda _: os.read(os.pipe()[0], 1), "timeout", is_long=True),
    "accept": Case(_listen, "timeout", is_long=True),
    "wait-for-program": Case(lambda _: subprocess.run(["sleep", "600"]), "timeout", is_long=True),
    "threads": Case(_many_threads, 1.0),
    "stuck-thread": Case(_stuck_thread, 1.0),
    "join": Case(lambda _: threading.Event().wait(), "timeout", is_long=True),
}
"""It does not end in time, or leaves something that does not."""

FORKS: Mapping[str, Case] = {
    "fork-and-return": Case(_fork_and_return, 1.0),
    "fork-and-live": Case(_fork_and_live, 1.0),
    "forks-that-end": Case(_forks_that_end, 1.0),
    "program-that-lives": Case(_program_that_lives, 1.0),
}
"""It starts other processes."""

FORGERIES: Mapping[str, Case] = {
    "print-verdict": Case(_forge_on_stdout, 0.0),
    "write-verdict": Case(_forge_without_nonce, 0.0),
    "write-zeros": Case(lambda _: _write_all(b"\0" * 64), "its process"),
    "write-garbage": Case(lambda _: _write_all(b"garbage " * 20), "its process"),
    "write-length": Case(lambda _: _write_all(b"\0\0\0\x10"), "its process", is_long=True),
    "close-all": Case(_close_all, "its process"),
    "close-first": Case(lambda _: os.closerange(0, 100) or 1.0, 1.0),
    "many-files": Case(_many_files, 1.0),
    "print-much": Case(_print_much, 1.0),
    "print-for-ever": Case(_print_for_ever, "timeout"),
    "print-surrogates": Case(lambda _: print("\ud800\x1b[2J") or 1.0, 1.0),
    "print-to-stderr": Case(lambda _: sys.stderr.write("\x1b]0;title\x07") and 1.0, 1.0),
}
"""It writes where only the judging process writes, or prints what looks like a verdict."""

STATE: Mapping[str, Case] = {
    "move": Case(_move, 1.0),
    "move-to-nowhere": Case(_move_to_nowhere, 1.0),
    "change-example": Case(_change_example, 1.0),
    "change-environ": Case(_change_environ, 1.0),
    "change-path": Case(lambda _: sys.path.clear() or 1.0, 1.0),
    "break-streams": Case(_break_open_files, 1.0),
    "break-json": Case(_break_json, "its process"),
    "change-verdicts": Case(_change_verdicts, "it raised", is_alone=True),
    "altered-verdict": Case(_altered_verdict, "not what it was"),
    "alarm-left": Case(_alarm_left, 1.0),
    "remove-imports": Case(_remove_imports, 1.0),
    "clear-worker": Case(_collect_workers, 1.0),
    "umask": Case(lambda _: os.umask(0o777) and 1.0, 1.0),
    "no-collection": Case(lambda _: gc.disable() or 1.0, 1.0),
    "trace": Case(lambda _: sys.settrace(lambda *_: sys.exit()) or 1.0, "SystemExit", is_long=True),
    "low-recursion": Case(lambda _: sys.setrecursionlimit(60) or 1.0, 1.0, is_long=True),
    "hooks": Case(lambda _: setattr(sys, "excepthook", os._exit) or 1.0, 1.0),
}
"""It changes something that outlives the judgment."""

RETURNS: Mapping[str, Case] = {
    "none": Case(lambda _: None, "it returned NoneType"),
    "text": Case(lambda _: "1.0", "it returned str"),
    "nan": Case(lambda _: float("nan"), "the reward is nan"),
    "infinite": Case(lambda _: float("inf"), "the reward is inf"),
    "negative": Case(lambda _: -0.1, "the reward is -0.1"),
    "too-much": Case(lambda _: 7, "the reward is 7"),
    "huge": Case(lambda _: 10**5000, "too many digits"),
    "class": Case(lambda _: Verdict, "it returned type"),
    "tuple": Case(lambda _: (1.0, "good"), "it returned tuple"),
    "dict": Case(lambda _: _NotADict(reward=1.0), "it returned _NotADict"),
    "odd-number": Case(lambda _: _Odd(), "it returned _Odd"),
    "generator": Case(lambda _: (x for x in [1.0]), "it returned generator"),
    "coroutine": Case(lambda _: _coroutine(), "it returned coroutine"),
    "exception": Case(lambda _: ValueError("no"), "it returned ValueError"),
    "long-feedback": Case(lambda _: Verdict(0.5, "x" * 10**7), 0.5),
    "surrogate-feedback": Case(lambda _: Verdict(0.5, "\ud800" * 1000), 0.5),
    "control-feedback": Case(lambda _: Verdict(0.5, "\0\x1b[2J"), 0.5),
    "number-answer": Case(lambda _: Verdict(0.5, answer=4), 0.5),  # type: ignore[arg-type]
    "set-feedback": Case(lambda _: Verdict(0.5, {1, 2}), "the feedback is"),  # type: ignore[arg-type]
    "true": Case(lambda _: True, 1.0),
    "zero": Case(lambda _: 0, 0.0),
    "random": Case(lambda _: round(random.random()), "any"),
}
"""It returns something odd."""

ERRORS: Mapping[str, Case] = {
    "error": Case(lambda _: {}["missing"], "KeyError"),
    "assertion": Case(lambda _: _raise(AssertionError()), "AssertionError"),
    "import": Case(lambda _: __import__("no_such_module"), "ModuleNotFoundError"),
    "long-error": Case(lambda _: _raise(ValueError("x" * 10**6)), "ValueError: xxx"),
    "error-of-lines": Case(lambda _: _raise(ValueError("a\nb\r\x1b[2Jc")), "ValueError: a b"),
    "surrogate-error": Case(lambda _: _raise(ValueError("\ud800")), "ValueError"),
    "memory": Case(lambda _: _raise(MemoryError()), "MemoryError"),
    "unicode": Case(lambda _: b"\xff".decode(), "UnicodeDecodeError"),
    "group": Case(lambda _: _raise(BaseExceptionGroup("several", [SystemExit(), ValueError()])), "BaseExceptionGroup"),
    "stop-iteration": Case(lambda _: next(iter(())), "StopIteration"),
    "timeout-error": Case(lambda _: _raise(TimeoutError("slow")), "TimeoutError: slow"),
    "broken-pipe": Case(lambda _: _raise(BrokenPipeError()), "BrokenPipeError"),
    "blocking": Case(lambda _: _raise(BlockingIOError()), "BlockingIOError"),
}
"""It raises."""

KINDS: Mapping[str, Mapping[str, Case]] = {
    "ends": ENDS,
    "hangs": HANGS,
    "forks": FORKS,
    "forgeries": FORGERIES,
    "state": STATE,
    "returns": RETURNS,
    "errors": ERRORS,
}

CASES: Mapping[str, Case] = {name: case for kind in KINDS.values() for name, case in kind.items()}


async def _coroutine() -> float:
    return 1.0


def judge(example: Example, completion: str) -> Any:
    """Do what the completion says. Any other completion is right if it is its example's answer."""
    word = completion.split(" ")[0]
    return CASES[word].does(example) if word in CASES else float(completion == example.answer)


def slow(example: Example, completion: str) -> float:
    """A verifier of 50 ms."""
    time.sleep(0.05)
    return float(completion == example.answer)


def hangs_at_multiples(example: Example, completion: str) -> float:
    """Hangs at every 50th answer; the others are right if they are even."""
    number = int(completion)
    if number % 50 == 49:
        time.sleep(3600)
    return float(number % 2 == 0)


class HostileEnvironment:
    """Says how many turns there were, until it is told to do what a case does."""

    def __init__(self, example: Example) -> None:
        self._example, self.turns = example, 0
        if example.answer in CASES:
            CASES[example.answer].does(example)

    def step(self, completion: str) -> list[Message] | None:
        self.turns += 1
        word = completion.split(" ")[0]
        if word in CASES:
            CASES[word].does(self._example)
        return None if completion == "end" else [Message(role="user", content=f"turn {self.turns}")]

    def verdict(self) -> Verdict:
        return Verdict(min(1.0, self.turns / 10))
