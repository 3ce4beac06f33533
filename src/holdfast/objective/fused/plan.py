"""What the fused loss decides before its first chunk: what it needs, at which tokens, and how these are cut up.

A *distribution* is a next-token distribution over the whole vocabulary: the student's p, the teacher's, the target's q
(the teacher, or a mix with it), the base's. Tokens that need the same distributions form a group. A chunk is a part of
a group; it holds its distributions next to each other, each in its *slot*, the student's in slot 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from holdfast.objective.batch import Batch
from holdfast.objective.head import Head
from holdfast.objective.signals import HiddenSignal, Signal, read_on_support, token_slices
from holdfast.recipes.parts.objective import Objective, Support

CHUNK_BYTES = {"cpu": 32 * 2**20, "cuda": 512 * 2**20}
"""Most bytes of log-probabilities that are alive at a time, all distributions of a chunk together."""

LEAST_CHUNK = 128
"""Tokens, if a chunk within `CHUNK_BYTES` would have fewer. Reading the head's weights would take longer than
multiplying with them."""

SPARSE_SHARE = 16
"""A top-k support with fewer entries than this part of the vocabulary is handled entry by entry."""

Tokens = slice | Tensor
"""Some of the loss tokens: a slice of [N], or their indices."""

RowAverages = Literal["in_chunk", "scale_afterwards", "known_beforehand"]
"""How a chunk gets the quantities that the loss averages over a row, such as GSPO's ratio.

in_chunk            Every chunk holds whole rows, or the loss averages nothing over rows.
scale_afterwards    A row is longer than a chunk, but its average is a single factor of all its losses, and only the
                    hidden states have a gradient. Their gradient is multiplied by the factor at the end.
known_beforehand    A row is longer than a chunk. An extra pass computes the sampled tokens' log-probabilities first.
"""


@dataclass(frozen=True, slots=True)
class TokenGroup:
    """Tokens that need the same distributions."""

    tokens: Tensor | None
    """Their indices; None for all tokens."""
    distilled: bool
    """Whether a divergence from the teacher counts at these tokens."""
    teacher_slot: int | None
    """None if the teacher's distribution is not computed in full."""
    target_slot: int | None
    """The teacher's slot, or that of a mix with the teacher."""
    base_slot: int | None
    slots: int
    prob_slots: int
    """The first so many slots are needed as probabilities too."""
    chunks: tuple[slice, ...] = ()
    """The group's tokens, cut up."""

    def tokens_of(self, chunk: slice) -> Tokens:
        """Where a chunk's tokens are among all N."""
        return chunk if self.tokens is None else self.tokens[chunk]


@dataclass(frozen=True, slots=True)
class LossPlan:
    """All decisions about one loss. Nothing in it changes while the chunks are worked on."""

    objective: Objective
    gradients: tuple[bool, bool, bool]
    """Whether hidden states, the head's weight and its bias need a gradient."""
    vocabulary: int
    dtype: torch.dtype
    """Of log-probabilities, sums and measurements: float32, or float64 if any input has it."""
    support: Support
    """The objective's. A top-k of the whole vocabulary or more is `full`."""
    reference: Literal["none", "sampled", "forward_kl"]
    """KL to the base: none, an estimate from the sampled tokens, or KL(base‖student) over the vocabulary."""
    teacher_statistics_on_support: bool
    """Statistics of the teacher are those of the renormalized support, see `read_on_support`."""
    teacher_at_entries: bool
    """The teacher's logits are computed at the support's entries only, so the teacher has no slot."""
    gradient_at_entries: bool
    """The gradient in the logits is 0 outside the support, so it is not laid out over the vocabulary.

    This needs a renormalized support: its gradients add up to 0 at each token, so the softmax's normalizer passes
    nothing to the other entries.
    """
    logit_factor: float
    """d(logits the loss sees) / d(W h + b): the head's scale over the temperature. A soft cap's slope comes on top."""
    row_averages: RowAverages
    groups: tuple[TokenGroup, ...]

    @property
    def wants_gradient(self) -> bool:
        return any(self.gradients)

    @property
    def bytes_per_distribution(self) -> int:
        """Of one token's log-probabilities over the vocabulary."""
        return self.vocabulary * self.dtype.itemsize

    @property
    def most_distributions(self) -> int:
        """Tokens × slots of the largest chunk."""
        return max(max(cut.stop - cut.start for cut in group.chunks) * group.slots for group in self.groups)


def plan_loss(
    hidden: Tensor,
    head: Head,
    batch: Batch,
    objective: Objective,
    teacher: Signal | None,
    base: Signal | None,
    *,
    gradients: tuple[bool, bool, bool],
    chunk_tokens: int | None,
) -> LossPlan:
    """Decide how to compute the loss of a batch.

    Args:
        hidden: [N, H], the student's.
        gradients: whether hidden states, the head's weight and its bias need a gradient.
        chunk_tokens: most tokens of a chunk; None for as many as `CHUNK_BYTES` hold, and at least `LEAST_CHUNK`.
    """
    vocabulary = len(head.weight)
    given = [s.hidden if isinstance(s, HiddenSignal) else s.entropy for s in (teacher, base) if s is not None]
    dtype = torch.float64 if torch.float64 in {tensor.dtype for tensor in (hidden, *given)} else torch.float32
    forms: dict[str, Literal["sampled", "forward_kl"]] = {"k3": "sampled", "k2": "sampled", "forward_kl": "forward_kl"}
    has_reference = bool(objective.reference_kl and batch.base_kl.any())
    support = objective.support
    if support.startswith("topk") and objective.top_k >= vocabulary:
        support = "full"
    few_entries = support == "topk_renormalized" and objective.top_k * SPARSE_SHARE <= vocabulary
    only_divergence = not has_reference and not bool(batch.ce.any() or batch.advantage.any())
    teacher_statistics_on_support = isinstance(teacher, HiddenSignal) and read_on_support(objective, vocabulary)
    teacher_at_entries = teacher_statistics_on_support and few_entries
    groups, row_is_cut = _cut(
        _group(batch, objective, None if teacher_at_entries else teacher, base),
        batch,
        vocabulary * dtype.itemsize,
        chunk_tokens,
        whole_rows=any(gradients) and _averages_over_rows(objective),
    )
    row_averages: RowAverages = "in_chunk"
    if row_is_cut:
        only_hidden = not any(gradients[1:])
        one_factor = _has_one_factor_per_row(batch, objective, has_reference)
        row_averages = "scale_afterwards" if one_factor and only_hidden else "known_beforehand"
    return LossPlan(
        objective=objective,
        gradients=gradients,
        vocabulary=vocabulary,
        dtype=dtype,
        support=support,
        reference=forms[objective.reference_kl_form] if has_reference else "none",
        teacher_statistics_on_support=teacher_statistics_on_support,
        teacher_at_entries=teacher_at_entries,
        gradient_at_entries=few_entries and only_divergence and head.softcap is None,
        logit_factor=head.scale / objective.temperature,
        row_averages=row_averages,
        groups=groups,
    )


# --- Averages over rows -------------------------------------------------------------------------------------------


def _has_row_ratio(objective: Objective) -> bool:
    return objective.policy_gradient is not None and objective.policy_gradient.ratio == "sequence"


def _has_row_weights(objective: Objective) -> bool:
    return objective.token_weight is not None and objective.token_weight.normalized


def _averages_over_rows(objective: Objective) -> bool:
    """Whether a token's gradient depends on the other tokens of its row."""
    return _has_row_ratio(objective) or _has_row_weights(objective) or objective.importance == "sequence_mean"


def _has_one_factor_per_row(batch: Batch, objective: Objective, has_reference: bool) -> bool:
    """Whether averaging over rows multiplies all losses of a row by one number, and does nothing else.

    The mean importance is such a number in a rollout batch's first step. In a later one the tokens' ratios to the
    first step differ, and a KL to the base is never corrected by it.
    """
    more = _has_row_ratio(objective) or _has_row_weights(objective) or has_reference
    return not more and bool(batch.old_logprobs.isnan().all())


# --- Groups of tokens ---------------------------------------------------------------------------------------------


def _group(batch: Batch, objective: Objective, teacher: Signal | None, base: Signal | None) -> list[TokenGroup]:
    """Tokens by the distributions that they need. In the usual step there is one group."""
    distilled = batch.div != 0
    needs_base = torch.zeros_like(distilled)
    if objective.reference_kl:
        needs_base = needs_base | (batch.base_kl != 0)
    if objective.anchor == "base":
        needs_base = needs_base | distilled
    codes = distilled.int() + 2 * needs_base.int()
    present = codes.unique().tolist() or [0]
    groups = []
    for code in present:
        tokens = None if len(present) == 1 else (codes == code).nonzero().squeeze(-1)
        groups.append(_with_slots(tokens, bool(code & 1), bool(code & 2), objective, teacher, base))
    return groups


def _with_slots(
    tokens: Tensor | None,
    distilled: bool,
    needs_base: bool,
    objective: Objective,
    teacher: Signal | None,
    base: Signal | None,
) -> TokenGroup:
    """A group with its distributions in order: student, teacher, mix, base.

    The base comes last, because most objectives need its log-probabilities only, and no probabilities.
    """
    slots = prob_slots = 1
    teacher_slot = target_slot = base_slot = None
    if distilled and isinstance(teacher, HiddenSignal):
        teacher_slot = target_slot = slots
        slots = prob_slots = slots + 1
        if objective.target != "teacher":
            target_slot = slots
            slots = prob_slots = slots + 1
    if needs_base and isinstance(base, HiddenSignal):
        base_slot = slots
        slots += 1
        if objective.reference_kl and objective.reference_kl_form == "forward_kl":
            prob_slots = slots
    return TokenGroup(tokens, distilled, teacher_slot, target_slot, base_slot, slots, prob_slots)


# --- Chunks -------------------------------------------------------------------------------------------------------


def _cut(
    groups: Sequence[TokenGroup], batch: Batch, row_bytes: int, chunk_tokens: int | None, *, whole_rows: bool
) -> tuple[tuple[TokenGroup, ...], bool]:
    """The groups with their chunks.

    Args:
        row_bytes: of one token's log-probabilities over the vocabulary.
        whole_rows: keep each row in one chunk if it fits.

    Returns:
        The groups, and whether a row that was to stay whole had to be cut.
    """
    device = batch.ids.device.type
    budget = CHUNK_BYTES.get(device, CHUNK_BYTES["cuda"])
    cut_groups, row_is_cut = [], False
    for group in groups:
        count = len(batch.ids) if group.tokens is None else len(group.tokens)
        most = chunk_tokens or max(LEAST_CHUNK, budget // (group.slots * row_bytes))
        chunks = tuple(token_slices(count, most))
        if whole_rows and count > most:
            rows = batch.row_index if group.tokens is None else batch.row_index[group.tokens]
            lengths = rows.unique_consecutive(return_counts=True)[1].tolist()
            if max(lengths) > most:
                row_is_cut = True
            else:
                chunks = tuple(_between_rows(lengths, most))
        cut_groups.append(replace(group, chunks=chunks))
    return tuple(cut_groups), row_is_cut


def _between_rows(lengths: Sequence[int], most: int) -> list[slice]:
    """Chunks of at most `most` tokens, each of as many whole rows of these lengths as fit."""
    slices, start, end = [], 0, 0
    for length in lengths:
        if end + length - start > most:
            slices.append(slice(start, end))
            start = end
        end += length
    return [*slices, slice(start, end)]
