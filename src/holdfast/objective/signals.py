"""Signals: the teacher's or the base's distribution at every loss token, in the form that costs least."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from holdfast.errors import ModelError
from holdfast.objective.divergence import entropy, log_softmax, token_logprobs, top_ids
from holdfast.objective.head import Head, TensorHead
from holdfast.objective.importance import confidence
from holdfast.recipes.parts.objective import Objective

CHUNK_BYTES = 32 * 2**20
"""Of float32 logits that are computed at a time."""


@dataclass(frozen=True, slots=True)
class HiddenSignal:
    """Final hidden states [N, H] and their output head: the full distributions, stored in N·H numbers."""

    hidden: Tensor
    head: Head

    def logits(self) -> Tensor:
        """[N, V], for the readable form of the loss."""
        return self.head(self.hidden)

    def select(self, tokens: slice | Tensor) -> Self:
        """The signal at some of the tokens."""
        return type(self)(self.hidden[tokens], self.head)


def mixed(first: HiddenSignal, second: HiddenSignal, share: float) -> HiddenSignal:
    """The signal whose logits are (1 − share)·first + share·second, so that it is ∝ first^(1−share)·second^share.

    If both have one head, their hidden states are mixed. Two heads are concatenated, for hidden states that are
    concatenated too.

    Raises:
        ModelError: a head has a soft cap. Then the mix of the logits is not the output of any one head.
    """
    heads = first.head, second.head
    if any(head.softcap is not None for head in heads):
        raise ModelError(
            "the model has a soft cap on its logits, and teacher_kind: trust_region cannot mix two such models",
            fix="choose another teacher_kind",
        )
    if heads[0].weight.data_ptr() == heads[1].weight.data_ptr():
        return HiddenSignal(torch.lerp(first.hidden, second.hidden, share), first.head)
    parts = (1 - share, first.head), (share, second.head)
    weight = torch.cat([part * head.weight.detach() for part, head in parts], dim=-1)
    biases = [part * head.bias.detach() for part, head in parts if head.bias is not None]
    head = TensorHead(weight, torch.stack(biases).sum(0) if biases else None, heads[0].scale)
    return HiddenSignal(torch.cat((first.hidden, second.hidden), dim=-1), head)


@dataclass(frozen=True, slots=True)
class SparseSignal:
    """K entries of a distribution. Log-probabilities are over the full vocabulary, with the temperature applied."""

    ids: Tensor
    """[N, K] int32, the entries; the most likely comes first."""
    logprobs: Tensor
    """[N, K], log-probabilities of the entries."""
    sampled_logprobs: Tensor
    """[N], log-probabilities of the completion's tokens."""
    entropy: Tensor
    """[N], of the full distribution, in nats."""

    def select(self, tokens: slice | Tensor) -> Self:
        """The signal at some of the tokens."""
        return type(self)(self.ids[tokens], self.logprobs[tokens], self.sampled_logprobs[tokens], self.entropy[tokens])


Signal = HiddenSignal | SparseSignal

SignalSource = Literal["teacher", "base"]


def compress(signal: Signal, ids: Tensor, objective: Objective, *, of: SignalSource = "teacher") -> Signal:
    """The smallest form of a signal that the objective can be computed from.

    A sparse signal also saves the projection onto the vocabulary in later steps. The log then lacks the full
    KL(student‖teacher), which a sparse signal does not contain.

    Args:
        signal: at N tokens.
        ids: [N], the completion's tokens.
        of: whose signal it is. The objective reads different entries of the two.
    """
    if isinstance(signal, SparseSignal):
        return signal
    kept = entries_read(objective, of)
    vocabulary = signal.head.weight.shape[0]
    if kept is None or kept >= vocabulary:
        return HiddenSignal(signal.hidden.to(signal.head.weight.dtype), signal.head)
    with torch.no_grad():
        parts = [
            _sparse(log_softmax(signal.head(signal.hidden[tokens]), objective.temperature), ids[tokens], kept)
            for tokens in token_slices(len(ids), max(1, CHUNK_BYTES // (4 * vocabulary)))
        ]
    return SparseSignal(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def sampled_logprobs(signal: Signal, ids: Tensor, temperature: float) -> Tensor:
    """A signal's log-probabilities [N] of the completion's tokens `ids` [N], with the temperature applied."""
    if isinstance(signal, SparseSignal):
        return signal.sampled_logprobs
    most = max(1, CHUNK_BYTES // (4 * signal.head.weight.shape[0]))
    with torch.no_grad():
        parts = [
            token_logprobs(log_softmax(signal.head(signal.hidden[tokens]), temperature), ids[tokens])
            for tokens in token_slices(len(ids), most)
        ]
    return torch.cat(parts)


def teacher_confidence(signal: Signal, objective: Objective) -> Tensor:
    """A teacher's confidence [N], for an objective that weights by it; see `DivergenceWeight`."""
    assert isinstance(signal, HiddenSignal)  # `entries_read` says that such an objective reads the full distribution
    assert objective.divergence_weight is not None
    temperature, top_k = objective.temperature, objective.divergence_weight.top_k
    most = max(1, CHUNK_BYTES // (4 * signal.head.weight.shape[0]))
    with torch.no_grad():
        parts = [
            confidence(log_softmax(signal.head(signal.hidden[tokens]), temperature), top_k)
            for tokens in token_slices(len(signal.hidden), most)
        ]
    return torch.cat(parts)


def token_slices(tokens: int, most: int) -> Iterator[slice]:
    """Slices of at most `most` tokens, of nearly equal length. For 0 tokens there is one empty slice."""
    count = max(1, -(-tokens // most))
    for i in range(count):
        yield slice(tokens * i // count, tokens * (i + 1) // count)


def entries_read(objective: Objective, of: SignalSource) -> int | None:
    """How many entries of a distribution the objective reads besides the sampled token; None for all."""
    if of == "base":
        return None if objective.anchor == "base" or objective.reference_kl_form == "forward_kl" else 0
    if objective.target != "teacher" or objective.reads_teacher_confidence:
        return None
    if objective.support == "sampled":
        # The surrogate reads the sampled token only; the most likely entry is for `agreement` in the log.
        return 1 if objective.sampled_baseline == "none" else None
    return objective.top_k if objective.top_k_by == "teacher" else None


def read_on_support(objective: Objective, vocabulary: int) -> bool:
    """Whether the objective reads the teacher at the student's top-k entries only, and renormalizes them.

    Then the teacher is not projected onto the rest of the vocabulary, and its statistics are over these entries too.
    """
    by_student = objective.top_k_by == "student" and objective.target == "teacher"
    return objective.support == "topk_renormalized" and by_student and objective.top_k < vocabulary


def _sparse(log_probs: Tensor, ids: Tensor, kept: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    top = top_ids(log_probs, kept) if kept else ids.new_zeros(len(ids), 0)
    values, order = log_probs.gather(-1, top).sort(dim=-1, descending=True)
    return top.gather(-1, order).int(), values, token_logprobs(log_probs, ids), entropy(log_probs)
