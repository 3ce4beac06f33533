"""The program of a judging process: it reads requests from one pipe and answers them on another.

Two processes run it. The first one waits: when the run has ended, by whatever means, or when the second one has, it
ends everything that was started here. The second one calls the user's functions, one at a time, in its main thread.

Requests are plain data with `do`:

- `load`: import a function. No time limit of an answer holds meanwhile.
- `judge`: a verifier judges a completion.
- `play`: an environment plays the turns of an episode. Turns that were played here before are not repeated.

Every request has a nonce, which its answer repeats.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import random
import select
import signal
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from holdfast.data.environment import CheckedEnvironment, Episodes
from holdfast.data.task import run_verifier
from holdfast.errors import HoldfastError
from holdfast.judging import frames
from holdfast.judging.load_function import load_function
from holdfast.judging.sent_example import from_message
from holdfast.judging.verdicts import verdict_as_message

EPISODES_KEPT = 4096
"""Episodes of which a process keeps the environment. An older one is played again if its next turn comes."""

_HIGH = 200
"""Pipes get descriptors from here on, out of the way of code that closes the first ones."""


def main(read_fd: int, write_fd: int) -> None:
    """Answer requests until the pipe ends. Does not return."""
    pipes = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH) for fd in (read_fd, write_fd)]
    os.close(read_fd)
    os.close(write_fd)
    worker = os.fork()
    if worker:
        _guard(worker, *pipes)
    # What a verifier forks must not hold the pipes open, nor answer.
    os.register_at_fork(after_in_child=partial(_close, pipes))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")  # if memory runs out, the run is not what ends
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    _Worker(*pipes).serve()
    os._exit(0)


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def _guard(worker: int, read_fd: int, write_fd: int) -> None:
    """Wait for the end of the run or of the worker, and end all that is left. Does not return."""
    poll = select.poll()
    poll.register(read_fd, 0)  # reports only that the other end is closed
    status = None
    while True:
        gone, status = os.waitpid(worker, os.WNOHANG)
        if gone:
            break
        if poll.poll(100):
            os.kill(worker, signal.SIGKILL)
            break
    with contextlib.suppress(OSError):
        frames.write(write_fd, frames.packed({"ended": os.waitstatus_to_exitcode(status)}))
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(0)


class _Worker:
    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._pid = os.getpid()
        self._directory, self._environ, self._path = os.getcwd(), dict(os.environ), list(sys.path)
        self._streams = sys.stdin, sys.stdout, sys.stderr
        self._stream_fds = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH) for fd in range(3)]
        self._recursion, self._umask = sys.getrecursionlimit(), os.umask(0o077)
        os.umask(self._umask)
        self._functions: dict[str, Callable[..., Any]] = {}
        self._episodes: OrderedDict[int, tuple[CheckedEnvironment, int]] = OrderedDict()

    def serve(self) -> None:
        while (request := frames.read(self._read_fd)) is not None:
            answer = self._answer(request)
            if os.getpid() != self._pid:  # the user's code has forked, and this is its child
                os._exit(0)
            answer["nonce"] = request["nonce"]
            try:
                frame = frames.packed(answer)
            except (TypeError, ValueError, HoldfastError) as error:
                what = f"what it returned cannot be sent: {error}"
                frame = frames.packed({"nonce": request["nonce"], "error": {"what": what, "fix": "return plain text"}})
            frames.write(self._write_fd, frame)

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        do: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]]
        do = {"load": self._load, "judge": self._judge, "play": self._play}
        try:
            self._tidy_up(request)
            return do[request["do"]](request)
        except HoldfastError as error:
            return {"error": {"what": error.what, "where": error.where, "fix": error.fix}}
        except BaseException as error:  # `KeyboardInterrupt` by a verifier; an example that cannot be unpickled
            last = traceback.format_exception_only(error)[-1].strip()
            return {"error": {"what": f"it raised {last}", "fix": "correct the function"}}
        finally:
            for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
                signal.setitimer(timer, 0)

    def _tidy_up(self, request: Mapping[str, Any]) -> None:
        """Undo what the answer before may have changed, so that a verdict does not depend on who was judged here."""
        with contextlib.suppress(OSError):
            os.chdir(self._directory)
        os.umask(self._umask)
        for fd, kept in enumerate(self._stream_fds):
            os.dup2(kept, fd)
        sys.stdin, sys.stdout, sys.stderr = self._streams
        sys.settrace(None)
        sys.setrecursionlimit(self._recursion)
        if sys.path != self._path:
            sys.path[:] = self._path
        if dict(os.environ) != self._environ:
            os.environ.clear()
            os.environ.update(self._environ)
        key = json.dumps([request.get(name) for name in ("function", "example", "completion", "turns")])
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
        random.seed(seed)
        if (numpy := sys.modules.get("numpy")) is not None:
            numpy.random.seed(seed)

    def _function(self, request: Mapping[str, Any]) -> Callable[..., Any]:
        name = request["function"]
        if name not in self._functions:
            self._functions[name] = load_function(name, request["where"], request["arguments"])
        return self._functions[name]

    def _load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._function(request)
        # What a module sets when it is imported, such as the number of threads, stays.
        self._environ, self._path = dict(os.environ), list(sys.path)
        self._recursion = sys.getrecursionlimit()
        return {}

    def _judge(self, request: Mapping[str, Any]) -> dict[str, Any]:
        example = from_message(request["example"])
        verdict = run_verifier(
            self._function(request), request["name"], example, request["completion"], request["reasoning"]
        )
        return {"verdict": verdict_as_message(verdict)}

    def _play(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Begin an episode if it is not there; play its turns; judge it if the request asks for that."""
        turns, key = request["turns"], request["episode"]
        environment, played = self._episodes.pop(key, (None, 0))
        if environment is None or played > len(turns):
            environment, played = Episodes(self._function(request)).begin(from_message(request["example"])), 0
        answer: dict[str, Any] = {}
        for turn in turns[played:]:
            answer["messages"] = environment.step(turn)
        if request["judged"]:
            answer["verdict"] = verdict_as_message(environment.verdict())
            return answer
        self._episodes[key] = environment, len(turns)
        if len(self._episodes) > EPISODES_KEPT:
            self._episodes.popitem(last=False)
        return answer
