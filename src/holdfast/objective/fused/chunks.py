"""One evaluation of the fused loss: chunks of tokens, measured and turned into gradients one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from holdfast.objective.batch import Batch
from holdfast.objective.divergence import (
    entropy,
    kl,
    log_softmax,
    sampled_baseline,
    sampled_surrogate,
    support_divergence,
    top_ids,
)
from holdfast.objective.fused.gradients import full_divergence, logit_gradient, pair_products, partial_target
from holdfast.objective.fused.head import HeadGradient, Projection, same_head
from holdfast.objective.fused.plan import Kind, cut_kinds, kinds_of
from holdfast.objective.head import Head
from holdfast.objective.importance import importance_of
from holdfast.objective.loss import reference_terms, sampled_terms
from holdfast.objective.signals import HiddenSignal, Signal, SparseSignal, read_on_support, token_slices
from holdfast.recipes.parts.objective import Objective

BLOCK_BYTES = {"cpu": 4 * 2**20, "cuda": 512 * 2**20}
"""Of probabilities: the part of a chunk that is worked on at a time; on a CPU it stays near the core."""

SPARSE_SHARE = 16
"""A gradient is handled by its entries where they are less than this part of the vocabulary."""

Tokens = slice | Tensor


@dataclass(slots=True)
class _Chunk:
    """n tokens at a time."""

    kind: Kind
    tokens: Tokens
    batch: Batch
    logs: Tensor
    """[n, S, V], see `holdfast.objective.fused.gradients`; in the end the student's hold the gradient in its logits."""
    chosen: Tensor
    """[n, S], of the sampled tokens."""
    gram: Tensor
    """[n, M, S]"""
    divergence: Tensor
    cut: Tensor
    """[n], the share of its summands that a clip changes."""
    label: Tensor
    """[n], the loss's derivative in the student's log-probability of the sampled token."""
    div: Tensor
    """[n], the loss's derivative in the divergence."""
    anchor: Tensor | None = None
    """[n], the loss's derivative in KL(base‖student)."""
    warm: Tensor | None = None
    """[n], KL(base‖student) at the reference's own temperature, times its square; None at a temperature of 1."""
    baseline: Tensor | None = None
    """[n], what a sampled token's advantage is compared with, where that is not the KL over the vocabulary."""
    entries: tuple[Tensor, Tensor] | None = None
    """[n, K], ids of a top-k support and the loss's derivatives in the student's log-probabilities of them."""


class ChunkedLoss:
    """One evaluation of the loss. What is measured is kept for all tokens [N]; all else belongs to a chunk."""

    def __init__(
        self,
        hidden: Tensor,
        head: Head,
        batch: Batch,
        objective: Objective,
        teacher: Signal | None,
        base: Signal | None,
        chunk_tokens: int | None,
    ) -> None:
        self.hidden, self.head, self.batch, self.objective = hidden, head, batch, objective
        self.teacher, self.base, self.chunk_tokens = teacher, base, chunk_tokens
        self.statistics: dict[str, Tensor] = {}
        self.vocabulary = len(head.weight)
        said = [s.hidden if isinstance(s, HiddenSignal) else s.entropy for s in (teacher, base) if s is not None]
        self.wide = torch.float64 if torch.float64 in {t.dtype for t in (hidden, *said)} else torch.float32
        reference = {"forward_kl": "forward_kl", "k3": "sampled", "k2": "sampled"}[objective.reference_kl_form]
        self.reference = reference if objective.reference_kl and batch.base_kl.any() else "none"
        self.support = objective.support
        if self.support.startswith("topk") and objective.top_k >= self.vocabulary:
            self.support = "full"
        few = self.support == "topk_renormalized" and objective.top_k * SPARSE_SHARE <= self.vocabulary
        alone = self.reference == "none" and not bool(batch.ce.any() or batch.advantage.any())
        self.by_entries = few and alone and head.softcap is None
        """Whether the gradient in the logits is 0 but at a top-k support's entries; renormalized, these add up to 0."""
        self.on_support = isinstance(teacher, HiddenSignal) and read_on_support(objective, self.vocabulary)
        self.gathered = self.on_support and few
        """Whether the teacher's logits are computed at a support's entries alone."""
        self.chain = head.scale / objective.temperature
        """From the logits that the loss sees back to W h + b, but for a soft cap."""
        self.row_bytes = self.vocabulary * self.wide.itemsize
        policy_gradient = objective.policy_gradient
        self.by_ratio_of_rows = policy_gradient is not None and policy_gradient.ratio == "sequence"
        token_weight = objective.token_weight
        self.by_weight_of_rows = token_weight is not None and token_weight.normalized
        self.projection = Projection(objective.temperature)

    def run(self, needed: tuple[bool, bool, bool]) -> tuple[Tensor, list[Tensor | None]]:
        """The loss, and its gradients in hidden states, weight and bias as far as they are needed."""
        measured = self.hidden.new_zeros(10, len(self.batch.ids), dtype=self.wide)
        self.logprobs, self.base_logprobs, self.entropy, self.teacher_kl, self.teacher_entropy = measured[:5]
        self.agreed, self.divergence, self.cut, self.base_kl, self.warm_kl = measured[5:]
        self.gradient = any(needed)
        self.head_gradient = HeadGradient(self.head, self.hidden, needed, self.wide)
        kinds = kinds_of(self.batch, self.objective, self.teacher, self.base, gathered=self.gathered)
        by_rows = self.by_ratio_of_rows or self.by_weight_of_rows
        averages = self.gradient and (by_rows or self.objective.importance == "sequence_mean")
        chunks, torn = cut_kinds(kinds, self.batch, self.row_bytes, self.chunk_tokens, whole_rows=averages)
        longest = [max(cut.stop - cut.start for cut in cuts) for cuts in chunks]
        most = max(length * kind.width for length, kind in zip(longest, kinds, strict=True))
        self.logs = self.hidden.new_empty(most * self.vocabulary, dtype=self.wide)
        self.probs = self.logs.new_empty(0)

        self.chunk_objective, self.known = self.objective, None
        late = torn and self._has_one_factor_per_row() and not any(needed[1:])
        if late:
            # Nothing but gradients in hidden states to correct, and these when all is known.
            self.chunk_objective = replace(self.objective, importance="none")
        elif torn:
            self.known = self._sampled_derivatives(self._logprobs(most), self.batch)
        for kind, cuts in zip(kinds, chunks, strict=True):
            for cut in cuts:
                self._chunk(kind, kind.of(cut))
        loss = self._reduce(taught=any(kind.taught for kind in kinds))
        if late and self.head_gradient.hidden is not None:
            factor = importance_of(self.logprobs, self.batch, self.objective).full
            self.head_gradient.hidden.mul_(factor.unsqueeze(-1))
        return loss, self.head_gradient.take()

    def _has_one_factor_per_row(self) -> bool:
        """Whether all that averages over rows do is to multiply every loss of a row by the same number."""
        by_rows = self.by_ratio_of_rows or self.by_weight_of_rows or self.reference != "none"
        return not by_rows and bool(self.batch.old_logprobs.isnan().all())

    def _logprobs(self, most: int) -> Tensor:
        """The sampled tokens' log-probabilities alone, for what must be known of whole rows beforehand."""
        logprobs = torch.zeros_like(self.logprobs)
        for tokens in token_slices(len(logprobs), most):
            logs = self._logs(tokens.stop - tokens.start, 1)[:, 0]
            self.projection.into(logs, self.head, self.hidden[tokens])
            torch.log_softmax(logs, -1, out=logs)
            logprobs[tokens] = logs.gather(-1, self.batch.ids[tokens].unsqueeze(-1)).squeeze(-1)
        return logprobs

    def _logs(self, tokens: int, width: int) -> Tensor:
        return self.logs[: tokens * width * self.vocabulary].view(tokens, width, self.vocabulary)

    def _sampled_derivatives(self, logprobs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss's derivatives [n] in the sampled tokens' log-probabilities and in the divergences."""
        leaf = logprobs.clone().requires_grad_()
        with torch.enable_grad():
            terms = sampled_terms(leaf, batch, self.chunk_objective)
            (label,) = torch.autograd.grad((batch.coef * terms.loss).sum(), leaf)
        return label, batch.coef * terms.div

    # --- One chunk ------------------------------------------------------------------------------------------------

    def _chunk(self, kind: Kind, tokens: Tokens) -> None:
        """Measure a chunk and add its gradients."""
        batch, hidden = self.batch.select(tokens), self.hidden[tokens]
        logs = self._logs(len(hidden), kind.width)
        slope = self._fill(logs, kind, tokens, hidden)
        chosen = logs.gather(-1, batch.ids.view(-1, 1, 1).expand(-1, kind.width, 1)).squeeze(-1)
        gram = logs.new_empty(len(logs), kind.weighed, kind.width)
        zeros = logs.new_zeros(4, len(logs))
        chunk = _Chunk(kind, tokens, batch, logs, chosen, gram, *zeros)
        if self.gradient:
            self._weigh(chunk)
        if kind.taught:
            self._compare(chunk)
        for part in self._blocks(len(logs), kind.weighed):
            self._block(chunk, part)
        self._keep(chunk)
        if self.gradient:
            self._add_gradient(chunk, hidden, slope)

    def _fill(self, logs: Tensor, kind: Kind, tokens: Tokens, hidden: Tensor) -> Tensor | None:
        """Log-probabilities of all of a chunk's distributions; returns the slope of the student's soft cap."""
        objective, slope = self.objective, None
        others = [
            (place, signal.head, signal.hidden[tokens])
            for place, signal in ((kind.teacher, self.teacher), (kind.base, self.base))
            if place is not None and isinstance(signal, HiddenSignal)
        ]
        shared = all(same_head(self.head, head) for _, head, _ in others)
        if shared and self.head.softcap is None and kind.width == 1 + len(others):
            # One product for all: the weights of a large head are read once.
            states = torch.stack((hidden, *(said.to(hidden.dtype) for _, _, said in others)), dim=1)
            self.projection.into(logs.flatten(0, 1), self.head, states.flatten(0, 1))
        else:
            slope = self.projection.into(logs[:, 0], self.head, hidden, slope=self.gradient)
            for place, head, said in others:
                self.projection.into(logs[:, place], head, said)
        if kind.target is None or kind.teacher is None or kind.target == kind.teacher:
            torch.log_softmax(logs, -1, out=logs)
        elif objective.target == "geometric":
            anchor = kind.base if objective.anchor == "base" else 0
            # What the logits lack to log-probabilities is the same for all entries, and falls out with the mix's own.
            torch.lerp(logs[:, anchor], logs[:, kind.teacher], objective.target_weight, out=logs[:, kind.target])
            torch.log_softmax(logs, -1, out=logs)
        else:
            logs[:, kind.target].zero_()
            torch.log_softmax(logs, -1, out=logs)
            for part in self._blocks(len(logs), kind.weighed):
                scratch = self._probs(part.stop - part.start, kind.weighed)
                partial_target(logs[part], scratch, kind.teacher, kind.target, objective.target_fraction)
        return slope

    def _weigh(self, chunk: _Chunk) -> None:
        """The derivatives that follow from the sampled tokens' log-probabilities and from annotations."""
        batch, tokens = chunk.batch, chunk.tokens
        if self.known is not None:
            label, div = (derivative[tokens] for derivative in self.known)
        else:
            label, div = self._sampled_derivatives(chunk.chosen[:, 0], batch)
        if self.reference == "sampled":
            leaf = chunk.chosen[:, 0].clone().requires_grad_()
            with torch.enable_grad():
                loss, _ = reference_terms(leaf, self._base_logprobs(chunk), batch, self.objective)
                label = label + torch.autograd.grad((batch.coef * loss).sum(), leaf)[0]
        elif chunk.kind.base is not None and self.reference == "forward_kl":
            chunk.anchor = self.chain * batch.coef.to(self.wide) * (self.objective.reference_kl * batch.base_kl)
        chunk.label, chunk.div = self.chain * label, self.chain * div

    def _base_logprobs(self, chunk: _Chunk) -> Tensor:
        if isinstance(self.base, SparseSignal):
            return self.base.sampled_logprobs[chunk.tokens]
        return chunk.chosen[:, 0 if chunk.kind.base is None else chunk.kind.base]

    def _compare(self, chunk: _Chunk) -> None:
        """Where student and teacher agree, and a divergence over a top-k support."""
        logs, kind, objective = chunk.logs, chunk.kind, self.objective
        said = None if self.teacher is None else self.teacher.select(chunk.tokens)
        if not self.on_support:
            best = said.ids[:, 0] if isinstance(said, SparseSignal) else top_ids(logs[:, kind.teacher], 1)[:, 0]
            self.agreed[chunk.tokens] = (top_ids(logs[:, 0], 1)[:, 0] == best).to(self.wide)
        if self.support == "sampled" and objective.sampled_baseline == "topk_kl":
            chunk.baseline = torch.as_tensor(sampled_baseline(logs[:, 0], logs[:, kind.target], objective))
        if not self.support.startswith("topk"):
            return
        if isinstance(said, SparseSignal):
            ids, target = said.ids.long(), said.logprobs
        else:
            ids = top_ids(logs[:, 0 if objective.top_k_by == "student" else kind.teacher], objective.top_k)
            if self.gathered:
                assert said is not None
                target = self.projection.at(said.head, said.hidden, ids, self.wide)
            else:
                target = logs[:, kind.target].gather(-1, ids)
        if self.on_support:
            self._measure_support(chunk.tokens, logs[:, 0].gather(-1, ids), target)
        student = logs[:, 0].gather(-1, ids).requires_grad_(self.gradient)
        with torch.set_grad_enabled(self.gradient):
            divergence = support_divergence(student, target, objective)
            if self.gradient:
                (derivative,) = torch.autograd.grad(divergence.value.sum(), student)
                chunk.entries = ids, derivative * chunk.div.unsqueeze(-1)
        chunk.divergence, chunk.cut = divergence.value.detach(), divergence.cut

    def _measure_support(self, tokens: Tokens, student: Tensor, teacher: Tensor) -> None:
        """What the log says of student and teacher [n, K], renormalized."""
        student, teacher = log_softmax(student), log_softmax(teacher)
        self.teacher_kl[tokens], self.teacher_entropy[tokens] = kl(student, teacher), entropy(teacher)
        self.agreed[tokens] = (student.argmax(-1) == teacher.argmax(-1)).to(self.wide)

    def _blocks(self, tokens: int, weighed: int) -> Iterator[slice]:
        most = BLOCK_BYTES.get(self.logs.device.type, BLOCK_BYTES["cuda"]) // (weighed * self.row_bytes)
        step = max(2, most // 2 * 2)
        return (slice(start, min(start + step, tokens)) for start in range(0, tokens, step))

    def _probs(self, tokens: int, weighed: int) -> Tensor:
        size = tokens * weighed * self.vocabulary
        if len(self.probs) < size:
            self.probs = self.logs.new_empty(size)
        return self.probs[:size].view(tokens, weighed, self.vocabulary)

    def _block(self, chunk: _Chunk, part: slice) -> None:
        """Products of the distributions, the divergence over the vocabulary, and the gradient in the logits."""
        kind, logs, gram = chunk.kind, chunk.logs[part], chunk.gram[part]
        probs = self._probs(len(logs), kind.weighed)
        if probs.device.type == "cpu" and kind.weighed == kind.width:
            # Normalizing once more changes nothing beyond rounding, and torch's softmax has the faster exponential.
            torch.softmax(logs, -1, out=probs)
        else:
            torch.exp(logs[:, : kind.weighed], out=probs)
        pair_products(probs, logs, gram)
        warm, gradient = self._warm(chunk, part), None  # before a divergence overwrites the log-probabilities
        if kind.taught and self.support == "sampled":
            self._sampled(chunk, part)
        elif kind.target is not None and self.support == "full":
            divergence, gradient = full_divergence(logs, probs, gram, kind.target, self.objective)
            chunk.divergence[part], chunk.cut[part] = divergence
        if not self.gradient or self.by_entries:
            return
        rest = -chunk.label[part]
        if chunk.entries is not None:
            rest = rest - chunk.entries[1][part].sum(-1)
        if chunk.anchor is not None and warm is None:
            rest = rest + chunk.anchor[part]
        logit_gradient(logs, probs, rest, chunk.div[part], gradient, kind.target)
        if warm is not None:
            logs[:, 0].add_(warm)
        elif chunk.anchor is not None:
            logs[:, 0].addcmul_(probs[:, kind.base], chunk.anchor[part].unsqueeze(-1), value=-1)

    def _warm(self, chunk: _Chunk, part: slice) -> Tensor | None:
        """At a temperature T of the reference's own: T² KL(base‖student) is measured, its gradient returned.

        That in the student's logits is T times the difference of the probabilities.
        """
        temperature, place = self.objective.reference_temperature, chunk.kind.base
        if self.reference != "forward_kl" or place is None or temperature == 1:
            return None
        student, base = (log_softmax(chunk.logs[part, side], temperature) for side in (0, place))
        if chunk.warm is None:
            chunk.warm = chunk.label.new_zeros(len(chunk.logs))
        chunk.warm[part] = temperature**2 * kl(base, student)
        if chunk.anchor is None:
            return None
        return (temperature * chunk.anchor[part]).unsqueeze(-1) * (student.exp() - base.exp())

    def _sampled(self, chunk: _Chunk, part: slice) -> None:
        kind, chosen = chunk.kind, chunk.chosen[part]
        if isinstance(self.teacher, SparseSignal):
            target = self.teacher.select(chunk.tokens).sampled_logprobs[part]
        else:
            target = chosen[:, kind.target]
        baseline: Tensor | float = 0.0
        if chunk.baseline is not None:
            baseline = chunk.baseline[part]
        elif self.objective.sampled_baseline == "kl":
            baseline = chunk.gram[part, 0, 0] - chunk.gram[part, 0, kind.target]
        chunk.divergence[part] = sampled_surrogate(chosen[:, 0], target, baseline)
        chunk.label[part] += chunk.div[part] * (chosen[:, 0] - target - baseline)

    def _keep(self, chunk: _Chunk) -> None:
        """What was measured at a chunk's tokens."""
        kind, tokens, gram = chunk.kind, chunk.tokens, chunk.gram
        self.logprobs[tokens] = chunk.chosen[:, 0]
        self.entropy[tokens] = -gram[:, 0, 0]
        self.divergence[tokens], self.cut[tokens] = chunk.divergence, chunk.cut
        if kind.teacher is not None and not self.on_support:
            self.teacher_entropy[tokens] = -gram[:, kind.teacher, kind.teacher]
            self.teacher_kl[tokens] = gram[:, 0, 0] - gram[:, 0, kind.teacher]
        if self.reference == "sampled":
            self.base_logprobs[tokens] = self._base_logprobs(chunk).to(self.wide)
        elif self.reference == "forward_kl" and kind.base is not None:
            self.base_kl[tokens] = gram[:, kind.base, kind.base] - gram[:, kind.base, 0]
            self.warm_kl[tokens] = self.base_kl[tokens] if chunk.warm is None else chunk.warm

    def _add_gradient(self, chunk: _Chunk, hidden: Tensor, slope: Tensor | None) -> None:
        if self.by_entries:
            if chunk.entries is not None:
                self.head_gradient.add_entries(chunk.tokens, hidden, *chunk.entries)
            return
        gradient = chunk.logs[:, 0]
        gradient.scatter_add_(-1, chunk.batch.ids.unsqueeze(-1), chunk.label.unsqueeze(-1))
        if chunk.entries is not None:
            gradient.scatter_add_(-1, *chunk.entries)
        if slope is not None:
            gradient.mul_(slope)
        dtype = self.head.weight.dtype
        narrow = None if dtype == self.wide else self.projection.buffer("logits", gradient, dtype)
        self.head_gradient.add(chunk.tokens, hidden, gradient, narrow)

    # --- All chunks -----------------------------------------------------------------------------------------------

    def _reduce(self, *, taught: bool) -> Tensor:
        """The loss of what was measured, with the readable form's own sum over components; and the statistics."""
        batch, objective = self.batch, self.objective
        terms = sampled_terms(self.logprobs, batch, objective)
        token_loss = terms.loss + terms.div * self.divergence
        statistics = {"entropy_sum": self.entropy.sum(), **terms.statistics}
        if taught:
            teacher_entropy = self.teacher.entropy if isinstance(self.teacher, SparseSignal) else self.teacher_entropy
            where = batch.div != 0
            statistics["teacher_tokens"] = where.sum()
            statistics["teacher_entropy_sum"] = torch.where(where, teacher_entropy, 0.0).sum()
            statistics["agreed"] = self.agreed.sum()
            if isinstance(self.teacher, HiddenSignal):
                statistics["teacher_kl_sum"] = self.teacher_kl.sum()
            if objective.clip != "none":
                statistics["clipped_tokens"] = (self.cut > 0).sum()
                statistics["clipped_share_sum"] = self.cut.sum()
        if self.reference == "sampled":
            loss, numbers = reference_terms(self.logprobs, self.base_logprobs, batch, objective)
            token_loss = token_loss + loss
            statistics |= numbers
        elif self.reference == "forward_kl":
            token_loss = token_loss + objective.reference_kl * batch.base_kl * self.warm_kl
            statistics |= {"anchored_tokens": (batch.base_kl != 0).sum(), "base_forward_kl_sum": self.base_kl.sum()}
        self.statistics |= statistics
        return (batch.coef * token_loss).sum()
