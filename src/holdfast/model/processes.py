"""The processes of one run: alone, or several under torchrun that split the work and hold the same plain data."""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from holdfast.errors import HoldfastError
from holdfast.stop import Stopped

T = TypeVar("T")

PATIENCE = timedelta(hours=24)
"""How long a process waits for the others."""


class Processes:
    """The processes that run one configuration together; alone, every method is trivial.

    Plain data travels over gloo, also between processes with a GPU each, so that no exchange of it waits for a device.

    Attributes:
        rank: this process's number, from 0.
        size: how many there are.
        device: where this process's share of the model lies unless the configuration says otherwise.
    """

    _current: "Processes | None" = None

    def __init__(self, rank: int = 0, size: int = 1, *, local_rank: int = 0, store: dist.Store | None = None) -> None:
        self.rank, self.size, self._store = rank, size, store
        self.device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")

    @classmethod
    def current(cls) -> "Processes":
        """The world of this process: what torchrun says in the environment when it is first asked for, else alone."""
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
        """The world of this process if it is in one of several; never waits for the others."""
        return cls._current if cls._current is not None and cls._current.size > 1 else None

    @classmethod
    def join(cls, store: dist.Store, rank: int, size: int, *, local_rank: int = 0) -> "Processes":
        """Meet the other processes at a store; returns when all are there."""
        cls._current = world = cls(rank, size, local_rank=local_rank, store=store)
        if world.device.type == "cuda":
            torch.cuda.set_device(world.device)
        backend = "cpu:gloo,cuda:nccl" if world.device.type == "cuda" else "gloo"
        # A process may wait long for one that samples or verifies; that one has died is known without a limit of time.
        dist.init_process_group(
            backend, store=dist.PrefixStore("holdfast", store), rank=rank, world_size=size, timeout=PATIENCE
        )
        return world

    def leave(self) -> None:
        """Part from the others at a good end; at a bad one a process just ends, and the others with it."""
        if self.size > 1:
            dist.destroy_process_group()
            Processes._current = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Every process's value, in the order of ranks, on all of them."""
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """The main process's value, on all."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
        return held[0]

    def barrier(self) -> None:
        """Wait until all have come this far."""
        self.highest(0)

    def highest(self, value: int) -> int:
        """The largest of all processes' numbers."""
        if self.size == 1:
            return value
        held = torch.tensor(value)
        dist.all_reduce(held, dist.ReduceOp.MAX)
        return int(held)

    def each(self, work: Callable[[], T]) -> list[T]:
        """Do work that the processes share without waiting for each other; its results in the order of ranks.

        What a user can fix, and a request to stop, is raised on all where it was raised on one.
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
        """Do work on the main process alone; all have its result, or raise what it raised, as in `each`."""
        return self.each(lambda: work() if self.is_main else None)[0]  # type: ignore[return-value]

    def last_word(self, say: Callable[[], object]) -> None:
        """Let the first of all processes that fail say why; the others wait until it has, for their end may end it."""
        assert self._store is not None
        try:
            if self._store.add("last word", 1) == 1:
                say()
                self._store.set("said", "")
            else:
                self._store.wait(["said"], timedelta(seconds=10))
        except RuntimeError:  # the process that holds the store is gone, and has spoken
            return

    def has_lost_another(self, error: Exception) -> bool:
        """Whether an error says that a process with which this one was exchanging something is gone."""
        return isinstance(error, dist.DistError) or "gloo" in str(error)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of a list: neighboring items, so that the parts of all, joined, are the list."""
        return items[len(items) * self.rank // self.size : len(items) * (self.rank + 1) // self.size]


def deal(sizes: Sequence[int], hands: int) -> list[list[int]]:
    """Deal items of given sizes to so many hands, by their indices: the largest first, each to the lightest hand.

    Every process deals alike. Hands may differ in number of items; each hand's items are in ascending order.
    """
    dealt: list[list[int]] = [[] for _ in range(hands)]
    loads = [0] * hands
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        lightest = min(range(hands), key=lambda hand: (len(dealt[hand]), loads[hand]))
        dealt[lightest].append(index)
        loads[lightest] += sizes[index]
    return [sorted(hand) for hand in dealt]
