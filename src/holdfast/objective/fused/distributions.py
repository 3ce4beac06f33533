"""The log-probabilities of a chunk's distributions: student, teacher, target and base, each in its slot."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from holdfast.objective.fused.gradients import partial_target
from holdfast.objective.fused.head import Projection, same_head
from holdfast.objective.fused.plan import LossPlan, TokenGroup, Tokens
from holdfast.objective.fused.workspace import Workspace
from holdfast.objective.head import Head
from holdfast.objective.signals import HiddenSignal, Signal

BLOCK_BYTES = {"cpu": 4 * 2**20, "cuda": 512 * 2**20}
"""Of probabilities of one block, the part of a chunk that is worked on at a time. A block is passed over several times,
so on a CPU it should stay in the core's cache."""


def blocks(plan: LossPlan, device: torch.device, tokens: int, prob_slots: int) -> Iterator[slice]:
    """A chunk's tokens in blocks, each but the last of an even number: `expected_log_probs` is faster on pairs."""
    most = BLOCK_BYTES.get(device.type, BLOCK_BYTES["cuda"]) // (prob_slots * plan.bytes_per_distribution)
    step = max(2, most // 2 * 2)
    return (slice(start, min(start + step, tokens)) for start in range(0, tokens, step))


@dataclass(frozen=True, slots=True)
class Distributions:
    """What the three models say, as log-probabilities over the vocabulary with the temperature applied."""

    plan: LossPlan
    head: Head
    """The student's."""
    teacher: Signal | None
    base: Signal | None
    projection: Projection
    workspace: Workspace

    def write(self, logs: Tensor, group: TokenGroup, tokens: Tokens, hidden: Tensor) -> Tensor | None:
        """Write a chunk's log-probabilities into `logs` [n, S, V].

        Args:
            tokens: where the chunk's n tokens are among all.
            hidden: [n, H], the student's.

        Returns:
            The slope [n, V] of the student's soft cap; None without one, or if no gradient is wanted.
        """
        slope = self._write_logits(logs, group, tokens, hidden)
        if group.target_slot == group.teacher_slot:
            torch.log_softmax(logs, -1, out=logs)
        elif self.plan.objective.target == "geometric":
            self._mix_logits(logs, group)
            torch.log_softmax(logs, -1, out=logs)
        else:
            # The mix is computed from the others' log-probabilities. Until then, its slot must not have NaN.
            logs[:, group.target_slot].zero_()
            torch.log_softmax(logs, -1, out=logs)
            self._write_partial_target(logs, group)
        return slope

    def _write_logits(self, logs: Tensor, group: TokenGroup, tokens: Tokens, hidden: Tensor) -> Tensor | None:
        others = [
            (slot, signal.head, signal.hidden[tokens])
            for slot, signal in ((group.teacher_slot, self.teacher), (group.base_slot, self.base))
            if slot is not None and isinstance(signal, HiddenSignal)
        ]
        one_head = all(same_head(self.head, head) for _, head, _ in others)
        if one_head and self.head.softcap is None and group.slots == 1 + len(others):
            # One product for all models reads the weights of the head once, which under LoRA is most of the work.
            states = torch.stack((hidden, *(other.to(hidden.dtype) for _, _, other in others)), dim=1)
            self.projection.into(logs.flatten(0, 1), self.head, states.flatten(0, 1))
            return None
        slope = self.projection.into(logs[:, 0], self.head, hidden, slope=self.plan.wants_gradient)
        for slot, head, other in others:
            self.projection.into(logs[:, slot], head, other)
        return slope

    def _mix_logits(self, logs: Tensor, group: TokenGroup) -> None:
        """log(a^(1−λ)·q^λ) up to a constant, of an anchor a and the teacher q.

        Logits differ from log-probabilities by a constant per token, which the mix's own softmax removes.
        """
        objective = self.plan.objective
        anchor = group.base_slot if objective.anchor == "base" else 0
        mix = logs[:, group.target_slot]
        torch.lerp(logs[:, anchor], logs[:, group.teacher_slot], objective.target_weight, out=mix)

    def _write_partial_target(self, logs: Tensor, group: TokenGroup) -> None:
        assert group.teacher_slot is not None
        assert group.target_slot is not None
        for part in blocks(self.plan, logs.device, len(logs), group.prob_slots):
            # A block's probabilities are formed later, so until then their memory is free to calculate in.
            scratch = self.workspace.probs(part.stop - part.start, group.prob_slots)
            fraction = self.plan.objective.target_fraction
            partial_target(logs[part], scratch, group.teacher_slot, group.target_slot, fraction)
