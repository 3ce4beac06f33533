"""What the fused loss does with which tokens: kinds of tokens by what they need, cut into chunks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from holdfast.objective.batch import Batch
from holdfast.objective.signals import HiddenSignal, Signal, token_slices
from holdfast.recipes.parts.objective import Objective

CHUNK_BYTES = {"cpu": 32 * 2**20, "cuda": 512 * 2**20}
"""Of log-probabilities that are alive at a time, all distributions together."""

LEAST_CHUNK = 128
"""Tokens. With fewer, reading the head's weights takes longer than multiplying with them."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Tokens that need the same distributions side by side; the student's place among these is 0."""

    tokens: Tensor | None
    """None for all there are."""
    taught: bool
    teacher: int | None
    target: int | None
    """The teacher's own place, or that of a mix with it."""
    base: int | None
    width: int
    """How many distributions there are."""
    weighed: int
    """How many of them, from the first, are needed as probabilities."""

    def of(self, cut: slice) -> slice | Tensor:
        """Some of its tokens, among all."""
        return cut if self.tokens is None else self.tokens[cut]


def kinds_of(
    batch: Batch, objective: Objective, teacher: Signal | None, base: Signal | None, *, gathered: bool = False
) -> list[Kind]:
    """Tokens sorted by what they need; in the usual step there is one kind.

    Args:
        gathered: the teacher is asked for the entries of a support alone, and has no place.
    """
    taught = batch.div != 0
    anchored = torch.zeros_like(taught)
    if objective.reference_kl:
        anchored = anchored | (batch.base_kl != 0)
    if objective.anchor == "base":
        anchored = anchored | taught
    codes = taught.int() + 2 * anchored.int()
    present = codes.unique().tolist() or [0]
    kinds = []
    for code in present:
        tokens = None if len(present) == 1 else (codes == code).nonzero().squeeze(-1)
        kinds.append(_kind(tokens, bool(code & 1), bool(code & 2), objective, None if gathered else teacher, base))
    return kinds


def _kind(
    tokens: Tensor | None,
    taught: bool,
    anchored: bool,
    objective: Objective,
    teacher: Signal | None,
    base: Signal | None,
) -> Kind:
    width = weighed = 1
    place_of_teacher = place_of_target = place_of_base = None
    if taught and isinstance(teacher, HiddenSignal):
        place_of_teacher = place_of_target = width
        width = weighed = width + 1
        if objective.target != "teacher":
            place_of_target = width
            width = weighed = width + 1
    if anchored and isinstance(base, HiddenSignal):
        place_of_base = width
        width += 1
        if objective.reference_kl and objective.reference_kl_form == "forward_kl":
            weighed = width
    return Kind(tokens, taught, place_of_teacher, place_of_target, place_of_base, width, weighed)


def cut_kinds(
    kinds: Sequence[Kind], batch: Batch, row_bytes: int, chunk_tokens: int | None, *, whole_rows: bool
) -> tuple[list[list[slice]], bool]:
    """Each kind's tokens in chunks.

    Args:
        row_bytes: of one token's log-probabilities over the vocabulary.
        whole_rows: keep rows whole, as far as they fit.

    Returns:
        The chunks of every kind, and whether a row had to be cut that was to be whole.
    """
    device = batch.ids.device.type
    budget = CHUNK_BYTES.get(device, CHUNK_BYTES["cuda"])
    chunks, torn = [], False
    for kind in kinds:
        count = len(batch.ids) if kind.tokens is None else len(kind.tokens)
        most = chunk_tokens or max(LEAST_CHUNK, budget // (kind.width * row_bytes))
        if not whole_rows or count <= most:
            chunks.append(list(token_slices(count, most)))
            continue
        rows = batch.row_index if kind.tokens is None else batch.row_index[kind.tokens]
        lengths = rows.unique_consecutive(return_counts=True)[1].tolist()
        if max(lengths) > most:
            torn = True
            chunks.append(list(token_slices(count, most)))
        else:
            chunks.append(_by_rows(lengths, most))
    return chunks, torn


def _by_rows(lengths: Sequence[int], most: int) -> list[slice]:
    slices, start, end = [], 0, 0
    for length in lengths:
        if end + length - start > most:
            slices.append(slice(start, end))
            start = end
        end += length
    return [*slices, slice(start, end)]
