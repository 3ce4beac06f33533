"""The judging processes of a run: started when they are needed, and again when one ends.

Outcomes do not depend on how many processes there are, nor on which of them judges what, if the functions depend on
their arguments alone.
"""

import atexit
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from holdfast.data.example import Verdict
from holdfast.errors import ConfigError, DataError
from holdfast.judging import load_function
from holdfast.judging.child import Child, ChildEndedError
from holdfast.judging.failure import Failure, forget_named, took_too_long
from holdfast.judging.verdicts import verdict_from_message

GROW_AFTER = 0.1
"""Seconds that answers wait for a process before more are started."""

_TICK = 0.1


@dataclass(frozen=True, slots=True)
class Job:
    """Something that a judging process does.

    Attributes:
        function: `module:function` of the user.
        named: names the setting that names the function, for messages.
        arguments: of the function, in words, for messages.
        request: what is asked of the process; None only has it import the function.
        limit: seconds for it.
        where: names what is judged, for messages.
        episode: the number of an episode, whose environment one process has; None for an answer of one turn.
    """

    function: str
    named: str
    arguments: str
    request: dict[str, Any] | None
    limit: float
    where: str
    episode: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: what the process answered, or a failure. Both are empty for a job that was not done."""

    answer: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None

    def value(self) -> dict[str, Any]:
        """The answer.

        Raises:
            DataError: there is none.
        """
        if self.failure is not None:
            raise self.failure.error
        return self.answer

    def verdict(self) -> Verdict:
        """The verdict in the answer. Raises as `value`."""
        return verdict_from_message(self.value()["verdict"])


def default_workers() -> int:
    """As many as this process may use cores, from 2 to 8; under torchrun, its share of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, min(8, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


class Pool:
    """Judging processes."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._children: list[Child] = []
        self._place: tuple[str, ...] = ()
        self._homes: dict[int, Child] = {}
        """The process that has the environment of an episode."""

    def __len__(self) -> int:
        """The number of processes."""
        return len(self._children)

    def run(
        self,
        jobs: Sequence[Job],
        *,
        workers: int | None = None,
        poll: Callable[[], None] = lambda: None,
        ends: Callable[[int, Outcome], bool] = lambda place, outcome: False,
    ) -> list[Outcome]:
        """Do jobs, several at a time, and return their outcomes in the order of the jobs.

        A process that takes too long is ended. One that ends by itself is replaced, and its job is tried once more,
        because an earlier answer may have left something behind that ended it.

        Args:
            workers: the most processes; by default `default_workers`.
            poll: called several times per second; may raise to stop everything.
            ends: whether the jobs after this place need not be done, now that it has this outcome. The outcomes then
                end with it.

        Raises:
            ConfigError: a function cannot be imported.
        """
        with self._lock:
            return self._run(_Batch(jobs, ends), workers or default_workers(), poll)

    def _run(self, batch: "_Batch", limit: int, poll: Callable[[], None]) -> list[Outcome]:
        if self._place != (place := (os.getcwd(), *sys.path)):  # they would find other modules and files
            self.close()
            self._place = place
        wanted, waited_since = len(self._children), time.monotonic()
        try:
            while not batch.is_done:
                poll()
                if not batch.waiting or any(child in batch.loading for child in self._children):
                    waited_since = time.monotonic()
                elif time.monotonic() - waited_since > GROW_AFTER:
                    wanted, waited_since = 2 * wanted, time.monotonic()
                wanted = max(1, min(wanted, limit))
                for child in list(self._children):
                    if not child.is_busy and child.is_gone:
                        self._drop(child)
                while len(self._children) < min(wanted, len(batch.waiting) + len(batch.under_way)):
                    self._children.append(self._started())
                for child in self._children:
                    if not child.is_busy:
                        self._give(child, batch)
                self._wait(batch)
                for child in list(self._children):
                    self._look(child, batch)
        finally:
            for child in list(self._children):
                if child.is_busy:  # its answer would come when nobody waits for it
                    self._drop(child)
        return batch.outcomes()

    def close(self) -> None:
        """End all processes. The pool can be used again."""
        if os.getpid() == self._pid:
            for child in list(self._children):
                self._drop(child)

    def _started(self) -> Child:
        try:
            return Child()
        except OSError as error:
            fix = "lower `train.verifier_workers`, or set `in_process: true`"
            raise DataError(f"no process that judges can be started: {error.strerror}", fix=fix) from error

    def _give(self, child: Child, batch: "_Batch") -> None:
        """Give a process the first job that it may take, or have it import that job's function."""
        for place in list(batch.waiting):
            job = batch.jobs[place]
            home = None if job.episode is None else self._homes.get(job.episode)
            if home is not None and home is not child:
                continue
            head = {"function": job.function, "where": job.named, "arguments": job.arguments}
            if job.function not in child.functions:
                batch.loading[child] = place
                child.ask({**head, "do": "load"}, load_function.LOAD_LIMIT)
                return
            batch.waiting.remove(place)
            if job.request is None:
                batch.finish(place, Outcome())
                continue
            batch.under_way[child] = place
            limit = job.limit
            if job.episode is not None:
                if home is None:  # it may have to play the turns before as well
                    limit *= 1 + len(job.request["turns"])
                self._homes[job.episode] = child
            try:
                child.ask({**head, **job.request}, limit)
            except DataError as error:
                del batch.under_way[child]
                batch.finish(place, _failed(error.what, job.where, error.fix))
                continue
            return

    def _wait(self, batch: "_Batch") -> None:
        """Wait until a process has said something, the next deadline, or a short time."""
        busy = [child for child in self._children if child.is_busy]
        if not busy:
            return
        until = min(child.deadline for child in busy) - time.monotonic()
        printing = [child.output.pipe for child in self._children if child.output.pipe is not None]
        poll = select.poll()
        for child in busy:
            poll.register(child.fileno(), select.POLLIN)
            if child.waits_to_send:
                poll.register(child.write_fd, select.POLLOUT)
        for pipe in printing:
            poll.register(pipe, select.POLLIN)
        poll.poll(1000 * max(0.0, min(_TICK, until)))
        for child in self._children:
            child.output.forward()

    def _look(self, child: Child, batch: "_Batch") -> None:
        """Take what a process has said, or end it if it is late."""
        if not child.is_busy:
            return
        if child.waits_to_send:
            child.send()
        try:
            answer = child.receive()
        except ChildEndedError as end:
            self._drop(child)
            batch.ended(child, str(end))
            return
        if answer is None:
            if time.monotonic() > child.deadline:
                self._drop(child)
                batch.late(child)
            return
        if child in batch.loading:
            batch.loaded(child, answer)
        else:
            job = batch.answered(child, answer)
            if job.episode is not None and (job.request or {}).get("judged"):
                self._homes.pop(job.episode, None)

    def _drop(self, child: Child) -> None:
        self._children.remove(child)
        self._homes = {episode: home for episode, home in self._homes.items() if home is not child}
        child.end()


class _Batch:
    """The jobs of one call: which wait, which are under way, and what became of the others."""

    def __init__(self, jobs: Sequence[Job], ends: Callable[[int, Outcome], bool]) -> None:
        self.jobs, self._ends = jobs, ends
        self.waiting = list(range(len(jobs)))
        self.under_way: dict[Child, int] = {}
        self.loading: dict[Child, int] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._deaths: dict[int, int] = {}
        self._last = len(jobs) - 1

    @property
    def is_done(self) -> bool:
        return not self.waiting and all(place > self._last for place in self.under_way.values())

    def outcomes(self) -> list[Outcome]:
        return [self._outcomes[place] for place in range(self._last + 1)]

    def finish(self, place: int, outcome: Outcome) -> None:
        self._outcomes[place] = outcome
        if self._ends(place, outcome):
            self._last = min(self._last, place)
            self.waiting = [each for each in self.waiting if each < place]

    def loaded(self, child: Child, answer: dict[str, Any]) -> None:
        """A process has imported a function, or has failed to.

        Raises:
            ConfigError: it has failed.
        """
        job = self.jobs[self.loading.pop(child)]
        if "error" in answer:
            error = answer["error"]
            raise ConfigError(error["what"], where=error.get("where") or job.named, fix=error["fix"])
        child.functions.add(job.function)

    def answered(self, child: Child, answer: dict[str, Any]) -> Job:
        place = self.under_way.pop(child)
        job = self.jobs[place]
        if "error" in answer:
            error = answer["error"]
            self.finish(place, _failed(error["what"], error.get("where") or job.where, error["fix"]))
        else:
            self.finish(place, Outcome(answer))
        return job

    def late(self, child: Child) -> None:
        """A process took too long and was ended.

        Raises:
            ConfigError: it imported a function.
        """
        if child in self.loading:
            job = self.jobs[self.loading.pop(child)]
            raise load_function.import_took_too_long(job.named)
        place = self.under_way.pop(child)
        job = self.jobs[place]
        self.finish(place, Outcome(failure=took_too_long(job.limit, job.where)))

    def ended(self, child: Child, how: str) -> None:
        """A process ended by itself. Its job is tried once more.

        Raises:
            ConfigError: it ended while it imported a function.
        """
        if child in self.loading:
            job = self.jobs[self.loading.pop(child)]
            raise ConfigError(f"importing it failed: {how}", where=job.named, fix="correct the module")
        place = self.under_way.pop(child)
        self._deaths[place] = self._deaths.get(place, 0) + 1
        if self._deaths[place] == 1:
            self.waiting.insert(0, place)
            self.waiting.sort()
            return
        fix = "let it return a verdict for every completion"
        self.finish(place, _failed(how, self.jobs[place].where, fix))


def _failed(what: str, where: str, fix: str) -> Outcome:
    return Outcome(failure=Failure("error", DataError(what, where=where, fix=fix)))


_pool: Pool | None = None


def current_pool() -> Pool:
    """The pool of this process. A process that was forked from one with a pool gets its own."""
    global _pool
    if _pool is None or _pool._pid != os.getpid():
        _pool = Pool()
        atexit.register(_pool.close)
    return _pool


@contextmanager
def judging() -> Iterator[None]:
    """A run, or something else that judges: afterwards no judging process is left."""
    forget_named()
    try:
        yield
    finally:
        current_pool().close()
