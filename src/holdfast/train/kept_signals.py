"""What the first optimizer step on a rollout batch computes for those that follow: its rows' teacher and base signals.

Hidden states are kept rather than logits, at a width of the model's and not the vocabulary's, or less where the
objective can do with less. They are read through the output head; where that moves in between, it is kept with them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from holdfast.data.rows import Row
from holdfast.objective.head import Head, TensorHead
from holdfast.objective.signals import HiddenSignal, Signal, SparseSignal

Parts = dict[str, Tensor]
"""The tensors of one row's signal, by field."""


class KeptSignals:
    """The signals of one source, by row."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._parts: dict[int, Parts] = {}
        self._head: Head | None = None
        self._own_head = False

    def hold(self, rows: Sequence[Row]) -> bool:
        """Whether the signals of all these rows are kept."""
        return all(id(row) in self._parts for row in rows)

    def keep(self, rows: Sequence[Row], signal: Signal, *, head_moves: bool) -> None:
        """Keep a signal, flat over the loss tokens of these rows."""
        lengths = [len(row.loss_positions()) for row in rows]
        split = {name: part.split(lengths) for name, part in tensors_of(signal).items()}
        for i, row in enumerate(rows):
            self._parts[id(row)] = {name: parts[i] for name, parts in split.items()}
        if isinstance(signal, HiddenSignal) and self._head is None:
            self._own_head = head_moves
            own = TensorHead.like(signal.head, lambda tensor: tensor.detach().clone()) if head_moves else None
            self._head = own or signal.head

    def of(self, rows: Sequence[Row]) -> Signal:
        """The kept signals of these rows, flat over their loss tokens."""
        parts = [self._parts[id(row)] for row in rows]
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return of_tensors(joined, self._head)

    def state(self, rows: Sequence[Row], *, with_head: bool = True) -> Parts:
        """What a checkpoint must hold, by the rows' places in their batch: of this process's rows.

        Args:
            with_head: a kept head too, which is the same on all processes.
        """
        tensors = {
            f"{place}.{name}": part
            for place, row in enumerate(rows)
            for name, part in self._parts.get(id(row), {}).items()
        }
        if with_head and self._own_head and self._head is not None:
            tensors["head.weight"] = self._head.weight
            if self._head.bias is not None:
                tensors["head.bias"] = self._head.bias
        return tensors

    def load_state(self, rows: Sequence[Row], tensors: Mapping[str, Tensor], head: Head) -> None:
        """Take back what `state` gave for the same rows; `head` reads hidden states that come without one."""
        self.clear()
        for key, part in tensors.items():
            place, _, name = key.partition(".")
            if place != "head":
                self._parts.setdefault(id(rows[int(place)]), {})[name] = part
        self._own_head = "head.weight" in tensors
        own = (tensors.get("head.weight"), tensors.get("head.bias"))
        self._head = head if own[0] is None else TensorHead(own[0], own[1], head.scale, head.softcap)


def tensors_of(signal: Signal) -> Parts:
    """A signal's tensors by field."""
    values = {f.name: getattr(signal, f.name) for f in fields(signal)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def of_tensors(parts: Parts, head: Head | None) -> Signal:
    """The signal that has these tensors; `head` reads hidden states."""
    if "hidden" in parts:
        assert head is not None
        return HiddenSignal(head=head, **parts)
    return SparseSignal(**parts)
