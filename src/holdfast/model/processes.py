"""The processes of one run: one alone, or several under torchrun that share the work and have the same plain data."""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from holdfast.errors import HoldfastError
from holdfast.stop import Board, Stopped

T = TypeVar("T")

PATIENCE = timedelta(hours=24)
"""How long a process waits for the others. Sampling and verifiers may take hours."""


class Processes:
    """The processes that run one configuration together. With one process, every method is trivial.

    Plain data is exchanged over gloo, on GPU machines too, so that an exchange never waits for a device.

    Attributes:
        rank: this process's number, from 0.
        size: how many processes there are.
        device: of this process's share of the model, unless the configuration sets another.
    """

    _current: "Processes | None" = None

    def __init__(self, rank: int = 0, size: int = 1, *, local_rank: int = 0, store: dist.Store | None = None) -> None:
        self.rank, self.size, self._store = rank, size, store
        self.device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")

    @classmethod
    def current(cls) -> "Processes":
        """The processes of this run, as torchrun's environment variables say; without them, this process alone."""
        if cls._current is None:
            if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ:
                store, rank, size = next(dist.rendezvous("env://"))
                cls.join(store, rank, size, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
            else:
                cls._current = cls()
        assert cls._current is not None
        return cls._current

    @classmethod
    def joined(cls) -> "Processes | None":
        """The processes of this run if they are several and have met; never waits for the others."""
        return cls._current if cls._current is not None and cls._current.size > 1 else None

    @classmethod
    def join(cls, store: dist.Store, rank: int, size: int, *, local_rank: int = 0) -> "Processes":
        """Meet the other processes at a store. Returns when all are there."""
        cls._current = world = cls(rank, size, local_rank=local_rank, store=store)
        if world.device.type == "cuda":
            torch.cuda.set_device(world.device)
        backend = "cpu:gloo,cuda:nccl" if world.device.type == "cuda" else "gloo"
        # A long limit is safe: when a process dies, its connections break, and the others notice at once.
        dist.init_process_group(
            backend, store=dist.PrefixStore("holdfast", store), rank=rank, world_size=size, timeout=PATIENCE
        )
        return world

    def leave(self) -> None:
        """Leave the group after success. After a failure a process just ends, and ends the others with it."""
        if self.size > 1:
            dist.destroy_process_group()
            Processes._current = None

    @property
    def board(self) -> Board | None:
        """Where processes that are several tell each other of signals; None for one alone."""
        return None if self._store is None else dist.PrefixStore("signals", self._store)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Every process's value, in the order of ranks, on all processes."""
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """The main process's value, on all processes."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def barrier(self) -> None:
        """Wait until all processes reach this call."""
        self.highest(0)

    def highest(self, value: int) -> int:
        """The largest of all processes' numbers, on all processes."""
        if self.size == 1:
            return value
        largest = torch.tensor(value)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def each(self, work: Callable[[], T]) -> list[T]:
        """Do this process's part of some work, and return all processes' results in the order of ranks.

        The work must not contain collective operations. An error that a user can fix, or a request to stop, on one
        process is raised on all.
        """
        if self.size == 1:
            return [work()]
        outcome: tuple[T | None, BaseException | None]
        try:
            outcome = work(), None
        except (HoldfastError, Stopped) as error:
            outcome = None, error
        gathered = self.gather(outcome)
        for _, failure in gathered:
            if failure is not None:
                raise failure
        return [result for result, _ in gathered]  # type: ignore[misc]

    def main(self, work: Callable[[], T]) -> T:
        """Do work on the main process only. All processes return its result, or raise its error as in `each`."""
        return self.each(lambda: work() if self.is_main else None)[0]  # type: ignore[return-value]

    def report_first_failure(self, say: Callable[[], object]) -> None:
        """Let only the first process that fails report why.

        The others wait until it has: torchrun ends all processes when one ends.
        """
        assert self._store is not None
        try:
            if self._store.add("failures", 1) == 1:
                say()
                self._store.set("reported", "")
            else:
                self._store.wait(["reported"], timedelta(seconds=10))
        except RuntimeError:  # the process with the store has ended, and it reported before that
            return

    def is_about_a_lost_process(self, error: Exception) -> bool:
        """Whether an error means that another process ended during an exchange with this one."""
        return isinstance(error, dist.DistError) or "gloo" in str(error)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of a list. Parts are contiguous: joined in the order of ranks, they are the list."""
        return items[len(items) * self.rank // self.size : len(items) * (self.rank + 1) // self.size]


def deal(sizes: Sequence[int], parts: int) -> list[list[int]]:
    """Indices of items of given sizes, dealt to so many parts of about equal size.

    The largest item comes first, and each item goes to the part with the fewest items, of these the smallest. The
    result depends on the arguments only, so all processes deal in the same way. Each part's indices are in ascending
    order.
    """
    dealt: list[list[int]] = [[] for _ in range(parts)]
    loads = [0] * parts
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        lightest = min(range(parts), key=lambda part: (len(dealt[part]), loads[part]))
        dealt[lightest].append(index)
        loads[lightest] += sizes[index]
    return [sorted(part) for part in dealt]
