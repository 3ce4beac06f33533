"""Runs a program that a model wrote. Everything here may be taken over by that program, and nothing relies on it.

It knows no expected output and gives no verdict. It says what the program printed or returned, and what it raised.

Messages: `{"program", "filter", "prelude"}` first, then any of

- `{"run": {"stdin", "seconds", "most"}}`: run the program as a script. The reply has its output.
- `{"serve": {"seconds"}}`: run the program as a module, reply with its names, and do what is asked of them (see
  `peer`) until the end, in a process of its own. The reply `{"gone": status}` says that this process has ended.
"""

import base64
import builtins
import contextlib
import gc
import json
import math
import os
import random
import resource
import select
import signal
import sys
import threading
import time
import types
from typing import Any

from .channel import Channel, ChannelClosedError, Filter
from .data import NotPlainError
from .peer import LONGEST_MESSAGE, Peer, PeerGoneError

NAME = "answer.py"
"""The program's file, as tracebacks name it."""

PRELUDE = """
import bisect, collections, copy, datetime, functools, heapq, itertools, json, math, operator, random, re, statistics
import string, sys, typing
from bisect import *
from collections import *
from copy import *
from functools import *
from heapq import *
from itertools import *
from math import *
from typing import *
"""
"""What programs of contests take for granted."""

MOST_NAMES = 1000


class Program:
    """A compiled program.

    Args:
        text: its source.
        has_prelude: whether it may use the names of `PRELUDE` without importing them.
    """

    def __init__(self, text: str, has_prelude: bool) -> None:
        self.lines = text.splitlines()
        self.code = compile(text, NAME, "exec", dont_inherit=True)
        self._names: dict[str, Any] = {}
        if has_prelude:
            exec(PRELUDE, self._names)

    def run(self, name: str) -> dict[str, Any]:
        """Run it as the module of a name. Returns its globals."""
        module = types.ModuleType(name)
        module.__dict__.update(self._names)
        sys.modules[name] = module
        exec(self.code, module.__dict__)
        return module.__dict__

    def described(self, error: BaseException) -> dict[str, Any]:
        """What an exception of the program says: its type, its message, and its last line in the program."""
        found: dict[str, Any] = {"type": type(error).__name__, "is_builtin": type(error).__module__ == "builtins"}
        with contextlib.suppress(Exception):
            found["message"] = str(error)[:LONGEST_MESSAGE]
        line = error.lineno if isinstance(error, SyntaxError) and error.filename == NAME else None
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == NAME:
                line = trace.tb_lineno
            trace = trace.tb_next
        if line is not None and 0 < line <= len(self.lines):
            found |= {"line": line, "text": self.lines[line - 1].strip()[:LONGEST_MESSAGE]}
        return found


def main() -> None:
    channel = Channel()
    order = channel.receive()
    filter_ = Filter(order["filter"])
    try:
        program = Program(order["program"], order["prelude"])
    except BaseException as error:  # also a RecursionError or MemoryError of the compiler
        found: dict[str, Any] = {"type": type(error).__name__, "is_builtin": True, "message": str(error)[:500]}
        if isinstance(error, SyntaxError):
            found |= {"line": error.lineno, "text": (error.text or "").strip()[:500], "message": error.msg}
        channel.send({"error": found})
        return
    channel.send({"ready": True})
    gc.freeze()
    while True:
        try:
            message = channel.receive()
        except ChannelClosedError:
            return
        if "run" in message:
            channel.send(run(program, filter_, channel, **message["run"]))
        elif "serve" in message:
            serve(program, filter_, channel, **message["serve"])
        # Else it is for a process that has served, and that ended by itself.


def run(
    program: Program, filter_: Filter, channel: Channel, stdin: str, seconds: float, wall: float, most: int
) -> dict[str, Any]:
    """Run the program as a script in a process of its own.

    Args:
        stdin: its standard input.
        seconds: of CPU time.
        wall: seconds until it is killed.
        most: bytes of its output that are kept. A program that writes more is killed.

    Returns:
        `out`: its output, in base64; `code`: its exit code, or the negative number of the signal that killed it;
        `error`: what it raised; `why`: "time" or "output" if it was killed for these.
    """
    given = _file_of(stdin.encode(errors="replace"))
    out_read, out_write = os.pipe()
    error_read, error_write = os.pipe()
    child = os.fork()
    if child == 0:
        channel.close()
        os.dup2(given, 0)
        os.dup2(out_write, 1)
        for number in (given, out_read, out_write, error_read):
            os.close(number)
        _limit(seconds, filter_)
        _as_script(program, error_write)
    for number in (given, out_write, error_write):
        os.close(number)
    out, why = _collected(out_read, error_read, wall, most, child)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status in (-signal.SIGXCPU, -signal.SIGKILL) and why is None:
        why = "time"
    error = None
    with contextlib.suppress(ValueError, RecursionError):
        error = json.loads(out[1]) if out[1] else None
    return {"out": base64.b64encode(out[0]).decode(), "code": status, "error": error, "why": why}


def _file_of(data: bytes) -> int:
    """A file descriptor from which a program reads this, at its own pace."""
    import tempfile  # here, because programs that are called and read nothing start faster without it

    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        number = os.dup(file.fileno())
    os.lseek(number, 0, os.SEEK_SET)
    return number


def _as_script(program: Program, error_write: int) -> None:
    """Run the program as `__main__`. Never returns."""
    code = 1
    sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.argv = [NAME]
    try:
        try:
            program.run("__main__")
            code = 0
        except SystemExit as error:
            code = 0 if error.code is None else error.code if isinstance(error.code, int) else 1
        threading._shutdown()  # type: ignore[attr-defined]
        sys.stdout.flush()
    except BaseException as error:
        code = 1
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        with contextlib.suppress(BaseException):
            _write(error_write, json.dumps(program.described(error)).encode())
    os._exit(code & 0xFF)


def _collected(out: int, error: int, wall: float, most: int, child: int) -> tuple[list[bytes], str | None]:
    """What a child writes until it ends. It is killed if it takes too long or writes too much."""
    deadline, texts, numbers = time.monotonic() + wall, {out: b"", error: b""}, [out, error]
    why = None
    while numbers and why is None:
        ready, _, _ = select.select(numbers, [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            why = "time"
        for number in ready:
            chunk = os.read(number, 2**16)
            texts[number] += chunk
            if not chunk:
                numbers.remove(number)
            if len(texts[number]) > most:
                why = "output"
    while why is None and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        # It has closed its output and goes on.
        time.sleep(0.005)
        if time.monotonic() > deadline:
            why = "time"
    os.kill(child, signal.SIGKILL)
    for number in (out, error):
        os.close(number)
    return [texts[out][:most], texts[error]], why


def serve(program: Program, filter_: Filter, channel: Channel, seconds: float) -> None:
    """Run the program as a module in a process of its own, which serves its names."""
    child = os.fork()
    if child == 0:
        try:
            _limit(seconds, filter_)
            _serve(program, channel)
        finally:
            os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    channel.send({"gone": status})


def _serve(program: Program, channel: Channel) -> None:
    peer = Peer(channel, lambda operation, target, name: True, program.described)
    try:
        names = program.run("answer")
    except BaseException as error:
        channel.send({"error": program.described(error)})
    else:
        channel.send({"names": _shown(names, peer)})
    with contextlib.suppress(ChannelClosedError, PeerGoneError):
        peer.serve()


def _shown(names: dict[str, Any], peer: Peer) -> dict[str, Any]:
    """A program's names: modules by name, exceptions by their base, plain values, and references to the rest."""
    shown: dict[str, Any] = {}
    for name, value in list(names.items()):
        if name.startswith("__") or len(shown) >= MOST_NAMES or not isinstance(name, str):
            continue
        if isinstance(value, types.ModuleType):
            shown[name] = {"module": value.__name__}
        elif isinstance(value, type) and issubclass(value, BaseException):
            shown[name] = {"exception": [each.__name__ for each in value.__mro__ if hasattr(builtins, each.__name__)]}
        else:
            with contextlib.suppress(NotPlainError):
                shown[name] = {"value": peer.encoded(value)}
    return shown


def _limit(seconds: float, filter_: Filter) -> None:
    """Hold this process to its CPU time, and to starting no other. The same program draws the same numbers."""
    whole = max(1, math.ceil(seconds))
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole))
    random.seed(0)
    filter_.set()


def _write(number: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(number, rest) :]
