"""The pass over chunks: each is projected onto the vocabulary, measured, and turned into its part of the gradients.

For each chunk of n tokens, in this order:

1. Write the log-probabilities of all its distributions, side by side (`distributions`).
2. Differentiate what follows from the sampled tokens' log-probabilities. This is [n], and autograd runs the readable
   form for it.
3. Compare student and teacher at their top entries. This is [n, K], and again the readable form.
4. Block by block, form probabilities, sum over the vocabulary, and overwrite the student's log-probabilities with the
   loss's gradient in its logits (`gradients`).
5. Store what was measured (`measurements`).
6. Multiply the gradient with the head's weight and with the hidden states (`head`).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from holdfast.objective.batch import Batch
from holdfast.objective.divergence import (
    entropy,
    kl,
    log_softmax,
    reference_divergence,
    reference_form,
    sampled_baseline,
    sampled_surrogate,
    support_divergence,
    top_ids,
)
from holdfast.objective.fused.distributions import Distributions, blocks
from holdfast.objective.fused.gradients import expected_log_probs, full_divergence, logit_gradient
from holdfast.objective.fused.head import HeadGradient, Projection
from holdfast.objective.fused.measurements import TokenMeasurements, reduce
from holdfast.objective.fused.plan import LossPlan, TokenGroup, Tokens
from holdfast.objective.fused.workspace import Workspace
from holdfast.objective.head import Head
from holdfast.objective.importance import importance_of, top_entropy
from holdfast.objective.loss import reference_terms, sampled_terms
from holdfast.objective.signals import Signal, SparseSignal, token_slices
from holdfast.recipes.parts.objective import Objective


@dataclass(frozen=True, slots=True)
class SampledDerivatives:
    """[n] each: the loss's derivatives that follow from the sampled tokens' log-probabilities."""

    logprob: Tensor
    """In log p of the sampled token."""
    divergence: Tensor
    """In the token's divergence."""

    def select(self, tokens: Tokens) -> "SampledDerivatives":
        return SampledDerivatives(self.logprob[tokens], self.divergence[tokens])


def sampled_derivatives(logprobs: Tensor, batch: Batch, objective: Objective) -> SampledDerivatives:
    """Differentiate the readable form at log-probabilities [n].

    All tokens of a row must be there if something is averaged over a row.
    """
    leaf = logprobs.clone().requires_grad_()
    with torch.enable_grad():
        terms = sampled_terms(leaf, batch, objective)
        (logprob,) = torch.autograd.grad((batch.coef * terms.loss).sum(), leaf)
    return SampledDerivatives(logprob, batch.coef * terms.div)


@dataclass(slots=True)
class Chunk:
    """n tokens of a group. All derivatives are with respect to logits W h + b, but for a soft cap's slope.

    So the chain rule's `LossPlan.logit_factor` is in the derivatives [n] already, where it costs n products instead of
    n·V.
    """

    group: TokenGroup
    tokens: Tokens
    """Where they are among all N."""
    batch: Batch
    hidden: Tensor
    """[n, H], the student's."""
    logs: Tensor
    """[n, S, V], log-probabilities; after `_sum_over_vocabulary`, slot 0 holds the gradient in the student's logits."""
    softcap_slope: Tensor | None
    """[n, V]"""
    sampled: Tensor
    """[n, S], every distribution's log-probability of the sampled token; kept because `logs` is overwritten."""
    expected: Tensor
    """[n, M, S], E_i[log j], see `holdfast.objective.fused.gradients`."""
    divergence: Tensor
    """[n]"""
    clipped_share: Tensor
    """[n], the share of the divergence's summands that a clip changes."""
    d_logprob: Tensor
    """[n], the loss's derivative in log p of the sampled token."""
    d_divergence: Tensor
    """[n], the loss's derivative in the divergence."""
    d_base_kl: Tensor | None = None
    """[n], the loss's derivative in KL(base‖student), if that is in the loss."""
    reshaped_base_kl: Tensor | None = None
    """[n], the KL(base‖student) that is trained on, if it is at a temperature or without the token itself."""
    baseline: Tensor | None = None
    """[n], subtracted from a sampled token's log-ratio, if it is a KL over a support and not over the vocabulary."""
    support: tuple[Tensor, Tensor] | None = None
    """[n, K] each: ids of a top-k support, and the loss's derivatives in the student's log-probabilities of them."""


class ChunkedLoss:
    """One loss and its gradients.

    Args:
        hidden: [N, H], the student's hidden states, in the dtype of its head.
        teacher, base: their signals at the same N tokens.
    """

    def __init__(
        self, plan: LossPlan, hidden: Tensor, head: Head, batch: Batch, teacher: Signal | None, base: Signal | None
    ) -> None:
        self.plan, self.objective = plan, plan.objective
        self.hidden, self.head, self.batch = hidden, head, batch
        self.teacher, self.base = teacher, base
        self.workspace = Workspace(plan.vocabulary, plan.dtype, hidden.device, plan.most_distributions)
        self.projection = Projection(self.objective.temperature, self.workspace)
        self.distributions = Distributions(plan, head, teacher, base, self.projection, self.workspace)
        self.measured = TokenMeasurements.zeros(hidden, len(batch.ids), plan.dtype)
        self.head_gradient = HeadGradient(head, hidden, plan.gradients, plan.dtype)
        self.known_derivatives: SampledDerivatives | None = None
        """For all N tokens, if a chunk cannot work out its own, see `plan.RowAverages`."""

    def run(self) -> tuple[Tensor, dict[str, Tensor], list[Tensor | None]]:
        """The loss, its statistics, and its gradients in hidden states, weight and bias as far as they are needed."""
        if self.plan.row_averages == "known_beforehand":
            logprobs = self._all_logprobs()
            batch = replace(self.batch, student_entropy=self.measured.student_entropy)
            self.known_derivatives = sampled_derivatives(logprobs, batch, self.objective)
        for group in self.plan.groups:
            for cut in group.chunks:
                self._work_on(group, group.tokens_of(cut))
        loss, statistics = reduce(self.measured, self.plan, self.batch, self.teacher)
        if self.plan.row_averages == "scale_afterwards" and self.head_gradient.hidden is not None:
            factor = importance_of(self.measured.logprobs, self.batch, self.objective).full
            self.head_gradient.hidden.mul_(factor.unsqueeze(-1))
        return loss, statistics, self.head_gradient.take()

    def _all_logprobs(self) -> Tensor:
        """log p of all N sampled tokens, by a separate pass with only the student's distribution.

        It measures the student's entropies too.
        """
        logprobs = torch.zeros_like(self.measured.logprobs)
        for tokens in token_slices(len(logprobs), self.plan.most_distributions):
            logs = self.workspace.log_probs(tokens.stop - tokens.start, 1)[:, 0]
            self.projection.into(logs, self.head, self.hidden[tokens])
            torch.log_softmax(logs, -1, out=logs)
            logprobs[tokens] = logs.gather(-1, self.batch.ids[tokens].unsqueeze(-1)).squeeze(-1)
            self._measure_entropy(tokens, logs)
        return logprobs

    def _measure_entropy(self, tokens: Tokens, log_probs: Tensor) -> None:
        """Store the student's entropies [n] if weights depend on them."""
        if self.objective.entropy_weight is not None:
            self.measured.student_entropy[tokens] = top_entropy(log_probs, self.objective.entropy_weight.top_k)

    def _work_on(self, group: TokenGroup, tokens: Tokens) -> None:
        chunk = self._open(group, tokens)
        if self.plan.wants_gradient:
            self._differentiate_sampled_tokens(chunk)
        if group.distilled:
            self._compare_top_entries(chunk)
        for part in blocks(self.plan, chunk.logs.device, len(chunk.logs), group.prob_slots):
            self._sum_over_vocabulary(chunk, part)
        self._store_measurements(chunk)
        if self.plan.wants_gradient:
            self._add_gradient(chunk)

    # --- 1. Log-probabilities -------------------------------------------------------------------------------------

    def _open(self, group: TokenGroup, tokens: Tokens) -> Chunk:
        batch, hidden = self.batch.select(tokens), self.hidden[tokens]
        logs = self.workspace.log_probs(len(hidden), group.slots)
        slope = self.distributions.write(logs, group, tokens, hidden)
        self._measure_entropy(tokens, logs[:, 0])
        batch = replace(batch, student_entropy=self.measured.student_entropy[tokens])
        sampled = logs.gather(-1, batch.ids.view(-1, 1, 1).expand(-1, group.slots, 1)).squeeze(-1)
        expected = logs.new_empty(len(logs), group.prob_slots, group.slots)
        zeros = logs.new_zeros(4, len(logs))
        return Chunk(group, tokens, batch, hidden, logs, slope, sampled, expected, *zeros)

    # --- 2. The sampled tokens ------------------------------------------------------------------------------------

    def _differentiate_sampled_tokens(self, chunk: Chunk) -> None:
        """The derivatives that follow from the sampled tokens' log-probabilities and from annotations."""
        batch, objective, factor = chunk.batch, self.objective, self.plan.logit_factor
        derivatives = self._sampled_derivatives(chunk)
        d_logprob = derivatives.logprob
        if self.plan.reference == "sampled":
            leaf = chunk.sampled[:, 0].clone().requires_grad_()
            with torch.enable_grad():
                loss, _ = reference_terms(leaf, self._base_logprobs(chunk), batch, objective)
                d_logprob = d_logprob + torch.autograd.grad((batch.coef * loss).sum(), leaf)[0]
        elif self.plan.reference == "forward_kl" and chunk.group.base_slot is not None:
            chunk.d_base_kl = factor * batch.coef.to(self.plan.dtype) * (objective.reference_kl * batch.base_kl)
        chunk.d_logprob, chunk.d_divergence = factor * d_logprob, factor * derivatives.divergence

    def _sampled_derivatives(self, chunk: Chunk) -> SampledDerivatives:
        if self.known_derivatives is not None:
            return self.known_derivatives.select(chunk.tokens)
        objective = self.objective
        if self.plan.row_averages == "scale_afterwards":
            objective = replace(objective, importance="none")  # `run` multiplies by it at the end
        return sampled_derivatives(chunk.sampled[:, 0], chunk.batch, objective)

    def _base_logprobs(self, chunk: Chunk) -> Tensor:
        """[n]. At tokens that do not ask the base, the student's own stand in: their estimate is 0."""
        if isinstance(self.base, SparseSignal):
            return self.base.sampled_logprobs[chunk.tokens]
        return chunk.sampled[:, 0 if chunk.group.base_slot is None else chunk.group.base_slot]

    # --- 3. Top entries -------------------------------------------------------------------------------------------

    def _compare_top_entries(self, chunk: Chunk) -> None:
        """Where student and teacher agree, a baseline over top entries, and a divergence over a top-k support."""
        logs, group, objective, plan = chunk.logs, chunk.group, self.objective, self.plan
        teacher = None if self.teacher is None else self.teacher.select(chunk.tokens)
        if not plan.teacher_statistics_on_support:
            if isinstance(teacher, SparseSignal):
                best = teacher.ids[:, 0]  # the most likely comes first
            else:
                best = top_ids(logs[:, group.teacher_slot], 1)[:, 0]
            self.measured.agreed[chunk.tokens] = (top_ids(logs[:, 0], 1)[:, 0] == best).to(plan.dtype)
        if plan.support == "sampled" and objective.sampled_baseline == "topk_kl":
            chunk.baseline = torch.as_tensor(sampled_baseline(logs[:, 0], logs[:, group.target_slot], objective))
        if plan.support.startswith("topk"):
            self._compare_on_support(chunk, teacher)

    def _compare_on_support(self, chunk: Chunk, teacher: Signal | None) -> None:
        """The divergence over a top-k support, and its derivatives in the student's log-probabilities there."""
        logs, group, objective, plan = chunk.logs, chunk.group, self.objective, self.plan
        if isinstance(teacher, SparseSignal):
            ids, target = teacher.ids.long(), teacher.logprobs
        else:
            ids = top_ids(logs[:, 0 if objective.top_k_by == "student" else group.teacher_slot], objective.top_k)
            if plan.teacher_at_entries:
                assert teacher is not None
                # Logits and not log-probabilities; renormalizing over the support makes them the same.
                target = self.projection.at(teacher.head, teacher.hidden, ids, plan.dtype)
            else:
                target = logs[:, group.target_slot].gather(-1, ids)
        if plan.teacher_statistics_on_support:
            self._measure_on_support(chunk.tokens, logs[:, 0].gather(-1, ids), target)
        student = logs[:, 0].gather(-1, ids).requires_grad_(plan.wants_gradient)
        with torch.set_grad_enabled(plan.wants_gradient):
            divergence = support_divergence(student, target, objective)
            if plan.wants_gradient:
                (derivative,) = torch.autograd.grad(divergence.value.sum(), student)
                chunk.support = ids, derivative * chunk.d_divergence.unsqueeze(-1)
        chunk.divergence, chunk.clipped_share = divergence.value.detach(), divergence.clipped_share

    def _measure_on_support(self, tokens: Tokens, student: Tensor, teacher: Tensor) -> None:
        """The teacher's statistics from both distributions [n, K], renormalized."""
        student, teacher = log_softmax(student), log_softmax(teacher)
        self.measured.teacher_kl[tokens] = kl(student, teacher)
        self.measured.teacher_entropy[tokens] = entropy(teacher)
        self.measured.agreed[tokens] = (student.argmax(-1) == teacher.argmax(-1)).to(self.plan.dtype)

    # --- 4. Sums over the vocabulary ------------------------------------------------------------------------------

    def _sum_over_vocabulary(self, chunk: Chunk, part: slice) -> None:
        """A block's entropies, KLs and divergence; then the gradient in its logits, over its log-probabilities.

        The order matters: everything that reads log-probabilities comes before `full_divergence`, which overwrites
        them.
        """
        group, logs, expected = chunk.group, chunk.logs[part], chunk.expected[part]
        probs = self.workspace.probs(len(logs), group.prob_slots)
        if probs.device.type == "cpu" and group.prob_slots == group.slots:
            # The log-probabilities are normalized, so softmax only takes their exponentials, to rounding. On CPUs its
            # exponential is faster than that of `torch.exp`.
            torch.softmax(logs, -1, out=probs)
        else:
            torch.exp(logs[:, : group.prob_slots], out=probs)
        expected_log_probs(probs, logs, expected)
        reshaped_gradient, gradient = self._reshape_base_kl(chunk, part), None
        if group.distilled and self.plan.support == "sampled":
            self._add_sampled_surrogate(chunk, part)
        elif group.target_slot is not None and self.plan.support == "full":
            divergence, gradient = full_divergence(logs, probs, expected, group.target_slot, self.objective)
            chunk.divergence[part], chunk.clipped_share[part] = divergence
        if not self.plan.wants_gradient or self.plan.gradient_at_entries:
            return
        # A derivative a in log p(v) is a gradient a·(onehot(v) − p) in the logits, so every such a takes a·p away. Here
        # these are added up; `_add_gradient` adds the one-hot parts at the end.
        factor_of_p = -chunk.d_logprob[part]
        if chunk.support is not None:
            factor_of_p = factor_of_p - chunk.support[1][part].sum(-1)
        if chunk.d_base_kl is not None and reshaped_gradient is None:
            factor_of_p = factor_of_p + chunk.d_base_kl[part]
        logit_gradient(logs, probs, factor_of_p, chunk.d_divergence[part], gradient, group.target_slot)
        if reshaped_gradient is not None:
            logs[:, 0].add_(reshaped_gradient)
        elif chunk.d_base_kl is not None:
            # KL(base‖student) has the gradient p − p_base; the p is in `factor_of_p`.
            logs[:, 0].addcmul_(probs[:, group.base_slot], chunk.d_base_kl[part].unsqueeze(-1), value=-1)

    def _reshape_base_kl(self, chunk: Chunk, part: slice) -> Tensor | None:
        """Measure a KL to the base at a temperature T or without the token itself, and return its gradient [n, V].

        With p_T = softmax(z / T), the gradient of KL(base‖student) in the logits z is (p_T − base_T) / T, so that of
        T²·KL is T·(p_T − base_T). A token that is left out has the probability 0 on both sides.

        Returns:
            None if the KL is the plain one or no gradient is wanted.
        """
        base_slot, objective = chunk.group.base_slot, self.objective
        is_plain = objective.reference_temperature == 1 and not objective.reference_without_token
        if self.plan.reference != "forward_kl" or base_slot is None or is_plain:
            return None
        ids = chunk.batch.ids[part]
        base, student = (reference_form(chunk.logs[part, slot], ids, objective) for slot in (base_slot, 0))
        if chunk.reshaped_base_kl is None:
            chunk.reshaped_base_kl = chunk.d_logprob.new_zeros(len(chunk.logs))
        chunk.reshaped_base_kl[part] = reference_divergence(base, student, ids, objective)
        if chunk.d_base_kl is None:
            return None
        return (objective.reference_temperature * chunk.d_base_kl[part]).unsqueeze(-1) * (student.exp() - base.exp())

    def _add_sampled_surrogate(self, chunk: Chunk, part: slice) -> None:
        """The single-token estimate of the reverse KL, see `sampled_surrogate`, and its derivative."""
        target_slot, sampled = chunk.group.target_slot, chunk.sampled[part]
        if isinstance(self.teacher, SparseSignal):
            target = self.teacher.select(chunk.tokens).sampled_logprobs[part]
        else:
            target = sampled[:, target_slot]
        baseline: Tensor | float = 0.0
        if chunk.baseline is not None:
            baseline = chunk.baseline[part]
        elif self.objective.sampled_baseline == "kl":
            baseline = chunk.expected[part, 0, 0] - chunk.expected[part, 0, target_slot]
        chunk.divergence[part] = sampled_surrogate(sampled[:, 0], target, baseline)
        chunk.d_logprob[part] += chunk.d_divergence[part] * (sampled[:, 0] - target - baseline)

    # --- 5. Measurements ------------------------------------------------------------------------------------------

    def _store_measurements(self, chunk: Chunk) -> None:
        group, tokens, expected, measured = chunk.group, chunk.tokens, chunk.expected, self.measured
        measured.logprobs[tokens] = chunk.sampled[:, 0]
        measured.entropy[tokens] = -expected[:, 0, 0]
        measured.divergence[tokens], measured.clipped_share[tokens] = chunk.divergence, chunk.clipped_share
        if group.teacher_slot is not None and not self.plan.teacher_statistics_on_support:
            measured.teacher_entropy[tokens] = -expected[:, group.teacher_slot, group.teacher_slot]
            measured.teacher_kl[tokens] = expected[:, 0, 0] - expected[:, 0, group.teacher_slot]
        if self.plan.reference == "sampled":
            measured.base_logprobs[tokens] = self._base_logprobs(chunk).to(self.plan.dtype)
        elif self.plan.reference == "forward_kl" and group.base_slot is not None:
            base_kl = expected[:, group.base_slot, group.base_slot] - expected[:, group.base_slot, 0]
            measured.base_kl[tokens] = base_kl
            reshaped = chunk.reshaped_base_kl
            measured.trained_base_kl[tokens] = base_kl if reshaped is None else reshaped

    # --- 6. Gradients ---------------------------------------------------------------------------------------------

    def _add_gradient(self, chunk: Chunk) -> None:
        if self.plan.gradient_at_entries:
            if chunk.support is not None:
                self.head_gradient.add_entries(chunk.tokens, chunk.hidden, *chunk.support)
            return
        gradient = chunk.logs[:, 0]
        gradient.scatter_add_(-1, chunk.batch.ids.unsqueeze(-1), chunk.d_logprob.unsqueeze(-1))
        if chunk.support is not None:
            gradient.scatter_add_(-1, *chunk.support)
        if chunk.softcap_slope is not None:
            gradient.mul_(chunk.softcap_slope)
        dtype = self.head.weight.dtype
        narrow = None if dtype == self.plan.dtype else self.workspace.head_logits(gradient, dtype)
        self.head_gradient.add(chunk.tokens, chunk.hidden, gradient, narrow)
