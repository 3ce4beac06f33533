"""Signals of teacher and base that a rollout batch's first optimizer step keeps for the steps that follow.

Hidden states are kept, and not logits: they have the model's width instead of the vocabulary's. If the objective reads
few entries, only these are kept. Hidden states need the output head. If its weights move before the next step, the head
is kept with them.
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
        self._head_is_copy = False

    def has(self, rows: Sequence[Row]) -> bool:
        """Whether the signals of all these rows are kept."""
        return all(id(row) in self._parts for row in rows)

    def add(self, rows: Sequence[Row], signal: Signal, *, head_moves: bool) -> None:
        """Keep a signal.

        Args:
            signal: flat over the loss tokens of these rows.
            head_moves: its output head changes before the signal is read again, so a copy of the head is kept.
        """
        lengths = [len(row.loss_positions()) for row in rows]
        split = {name: part.split(lengths) for name, part in tensors_of(signal).items()}
        for i, row in enumerate(rows):
            self._parts[id(row)] = {name: parts[i] for name, parts in split.items()}
        if isinstance(signal, HiddenSignal) and self._head is None:
            self._head_is_copy = head_moves
            copy = TensorHead.like(signal.head, lambda tensor: tensor.detach().clone()) if head_moves else None
            self._head = copy or signal.head

    def of(self, rows: Sequence[Row]) -> Signal:
        """The kept signals of these rows, flat over their loss tokens."""
        parts = [self._parts[id(row)] for row in rows]
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return of_tensors(joined, self._head)

    def state(self, rows: Sequence[Row], *, with_head: bool = True) -> Parts:
        """What a checkpoint must hold of this process's rows; keys begin with a row's index in `rows`.

        Args:
            with_head: add a copied head. It is the same on all processes, so one of them writes it.
        """
        tensors = {
            f"{index}.{name}": part
            for index, row in enumerate(rows)
            for name, part in self._parts.get(id(row), {}).items()
        }
        if with_head and self._head_is_copy and self._head is not None:
            tensors["head.weight"] = self._head.weight
            if self._head.bias is not None:
                tensors["head.bias"] = self._head.bias
        return tensors

    def load_state(self, rows: Sequence[Row], tensors: Mapping[str, Tensor], head: Head) -> None:
        """Restore what `state` returned for the same rows.

        Args:
            head: for hidden states that were kept without a copy of their head.
        """
        self.clear()
        for key, part in tensors.items():
            index, _, name = key.partition(".")
            if index != "head":
                self._parts.setdefault(id(rows[int(index)]), {})[name] = part
        self._head_is_copy = "head.weight" in tensors
        weight, bias = tensors.get("head.weight"), tensors.get("head.bias")
        self._head = head if weight is None else TensorHead(weight, bias, head.scale, head.softcap)


def tensors_of(signal: Signal) -> Parts:
    """A signal's tensors by field."""
    values = {f.name: getattr(signal, f.name) for f in fields(signal)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def of_tensors(parts: Parts, head: Head | None) -> Signal:
    """The signal with these tensors; hidden states need `head`."""
    if "hidden" in parts:
        assert head is not None
        return HiddenSignal(head=head, **parts)
    return SparseSignal(**parts)
