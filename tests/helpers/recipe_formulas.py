"""The losses of recipes as plain torch formulas, written from their papers, for `tests/recipes/test_loss.py`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from holdfast.data.rows import Row


class Seen(NamedTuple):
    """A row, and the log-probabilities [T, V] of three models at its completion.

    The teacher has its own prompt; `shown` is the student with the teacher's prompt, detached.
    """

    row: Row
    ids: Tensor
    student: Tensor
    teacher: Tensor
    base: Tensor
    shown: Tensor

    def of(self, side: Tensor) -> Tensor:
        """[T], the log-probabilities of the completion's tokens."""
        return side.gather(-1, self.ids[:, None])[:, 0]


Formula = Callable[[Sequence[Sequence[Seen]]], Tensor]


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.exp() * (p - q)).sum(-1)


def total(losses: Sequence[Tensor], count: int) -> Tensor:
    return torch.stack(list(losses)).sum() / count


def token_mean(groups: Sequence[Sequence[Seen]], loss: Callable[[Seen], Tensor]) -> Tensor:
    rows = [seen for group in groups for seen in group]
    return torch.cat([loss(seen) for seen in rows]).mean()


def advantages(group: Sequence[Seen]) -> list[float]:
    rewards = torch.tensor([seen.row.reward for seen in group], dtype=torch.float64)
    return ((rewards - rewards.mean()) / (rewards.std() + 1e-4)).tolist()


def correction(seen: Seen, cap: float = 2.0) -> Tensor:
    """min(p_train / p_sampler, cap), detached."""
    assert seen.row.sampled_logprobs is not None
    return (seen.of(seen.student) - torch.tensor(seen.row.sampled_logprobs)).exp().clamp(max=cap).detach()


def of_row(seen: Seen, skip: int = 0) -> Tensor:
    """SDFT's correction of a row: the mean of the tokens' corrections, without skipped tokens."""
    return correction(seen)[skip:].mean()


def on_policy(seen: Seen, advantage: Tensor | float) -> Tensor:
    """The policy gradient's loss in the first step on a rollout batch: the ratio is 1, and differentiable."""
    logprobs = seen.of(seen.student)
    return -correction(seen) * (logprobs - logprobs.detach()).exp() * advantage


def dft(groups: Sequence[Sequence[Seen]]) -> Tensor:
    return token_mean(groups, lambda s: -s.of(s.student).exp().detach() * s.of(s.student))


def asft(groups: Sequence[Sequence[Seen]]) -> Tensor:
    return dft(groups) + 0.3 * token_mean(groups, lambda s: kl(s.base, s.student))


def talr(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """The median of two rows is the lower one."""
    tau = min(-s.of(s.student).mean().item() for group in groups for s in group)
    return token_mean(groups, lambda s: -(s.of(s.student).detach().exp() ** (1 / tau)).clamp(min=0.4) * s.of(s.student))


def eaft(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """The entropy of the top 5, in units of 2 nats, squared."""

    def loss(s: Seen) -> Tensor:
        top = s.student.detach().exp().sort(dim=-1, descending=True).values[:, :5]
        top = top / top.sum(-1, keepdim=True)
        return -((-(top * top.log()).sum(-1) / 2) ** 2) * s.of(s.student)

    return token_mean(groups, loss)


def tmkl(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """KL(b̃‖p̃) of the other tokens, from the whole KL by the chain rule: KL(b‖p) = KL of "the target or not" +
    b(not the target)·KL(b̃‖p̃)."""

    def loss(s: Seen) -> Tensor:
        b, p = s.of(s.base).exp(), s.of(s.student).exp()
        binary = b * (b / p).log() + (1 - b) * ((1 - b) / (1 - p)).log()
        return -s.of(s.student) + 0.7 * (kl(s.base, s.student) - binary) / (1 - b)

    return token_mean(groups, loss)


def rad(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """The second group is a text."""
    return token_mean(groups[:1], lambda s: -s.of(s.student)) + 0.7 * token_mean(
        groups[1:], lambda s: kl(s.base, s.student)
    )


def cpo(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """At temperature 0.8; the ratio of a row is the geometric mean of its tokens' ratios."""
    losses = []
    for group in groups:
        for s, advantage in zip(group, advantages(group), strict=True):
            logprobs = s.of((s.student / 0.8).log_softmax(-1))
            sampled = torch.tensor(s.row.sampled_logprobs)
            mismatch = (logprobs.detach() - sampled).exp().clamp(max=2)
            ratio = (logprobs - logprobs.detach()).mean().exp()
            losses.append((-mismatch * ratio * advantage).mean())
    return total(losses, len(losses))


def kl_sft(groups: Sequence[Sequence[Seen]]) -> Tensor:
    return token_mean(groups, lambda s: -s.of(s.student) + 0.3 * kl(s.base, s.student))


def lwf(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """At temperature 2; the old model is that of the stage's start."""

    def loss(s: Seen) -> Tensor:
        old, new = (side.exp() ** 0.5 for side in (s.teacher, s.student))
        old, new = old / old.sum(-1, keepdim=True), new / new.sum(-1, keepdim=True)
        return -s.of(s.student) + 0.3 * 4 * (old * (old / new).log()).sum(-1)

    return token_mean(groups, loss)


def replay(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """The second prompt's row is replayed; the mean is over all tokens, not over weights."""
    return token_mean(groups, lambda s: -(0.3 if s.row.replayed else 1.0) * s.of(s.student))


def top_jsd(s: Seen, teacher: Tensor) -> Tensor:
    """JSD(.5) on the student's top 100 and the rest."""
    ids = s.student.topk(100).indices
    p, q = (side.gather(-1, ids).exp() for side in (s.student, teacher))
    p, q = (torch.cat((side, 1 - side.sum(-1, keepdim=True)), -1) for side in (p, q))
    m = (p + q) / 2
    return ((q * (q / m).log()).sum(-1) + (p * (p / m).log()).sum(-1)) / 2


def sdpo(
    groups: Sequence[Sequence[Seen]],
    *,
    teacher: Callable[[Seen], Tensor] = lambda s: s.teacher,
    weight: Callable[[float], float] = lambda share: 1.0,
) -> Tensor:
    """A row has a teacher if a sibling succeeded; `weight` takes the fraction of successful samples of a prompt."""
    losses = []
    for group in groups:
        succeeded = [s.row.reward >= 0.5 for s in group]
        for at, s in enumerate(group):
            if any(succeeded[:at] + succeeded[at + 1 :]):
                losses.append((correction(s) * top_jsd(s, teacher(s))).mean() * weight(sum(succeeded) / len(group)))
    return total(losses, sum(map(len, groups)))


def sdft(groups: Sequence[Sequence[Seen]], *, skip: int = 3, mix: float = 0.0) -> Tensor:
    """A row's correction is one number; a row that is shorter than `skip` counts in the mean.

    Args:
        mix: the student's weight in the teacher's logits.
    """
    rows = [s for group in groups for s in group]
    losses = []
    for s in rows:
        target = ((1 - mix) * s.teacher + mix * s.shown).log_softmax(-1)
        if len(s.ids) > skip:
            losses.append(correction(s)[skip:].mean() * kl(target, s.student)[skip:].mean())
    assert skip == 0 or 0 < len(losses) < len(rows)
    return total(losses, len(rows))


def trusted(s: Seen) -> Tensor:
    """A trust-region teacher with 0.4 of the student."""
    return (0.6 * s.teacher + 0.4 * s.shown).log_softmax(-1)


def rft(groups: Sequence[Sequence[Seen]]) -> Tensor:
    kept = [[s for s in group if s.row.reward == 1][:1] for group in groups]
    rows = [s for group in kept for s in group]
    return total([(-correction(s) * s.of(s.student)).mean() for s in rows], len(rows))


def correct_only(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """The first token of each completion is skipped."""
    rows = [s for group in groups for s in group if s.row.reward == 1]
    return total([correction(s)[1:].mean() * kl(s.teacher, s.student)[1:].mean() for s in rows], len(rows))


def sc_sdpo(groups: Sequence[Sequence[Seen]]) -> Tensor:
    losses = []
    for group in groups:
        share = sum(s.row.reward >= 0.5 for s in group) / len(group)
        weight = (share * (1 - share)) ** 0.5
        losses += [weight * (correction(s) * kl(s.teacher, s.student)).mean() for s in group if s.row.teacher_messages]
    return total(losses, sum(map(len, groups)))


def rlsd(groups: Sequence[Sequence[Seen]]) -> Tensor:
    tokens = []
    for group in groups:
        for s, advantage in zip(group, advantages(group), strict=True):
            sign = 1.0 if advantage > 0 else -1.0
            evidence = (sign * (s.of(s.teacher) - s.of(s.student))).exp().clamp(0.8, 1.2).detach()
            tokens.append(on_policy(s, advantage * (0.5 + 0.5 * evidence)))
    return torch.cat(tokens).mean()


def clipped(s: Seen, advantage: Tensor, high: float, dual: float) -> Tensor:
    """The policy gradient's loss in a later step on a rollout batch, token by token.

    The row's `old_logprobs` are those of the first step. The sampler's mismatch is that of the first step too.
    """
    old = torch.tensor(s.row.old_logprobs)
    assert s.row.sampled_logprobs is not None
    mismatch = (old - torch.tensor(s.row.sampled_logprobs)).exp().clamp(max=2.0)
    losses = []
    for now, before, factor, a in zip(s.of(s.student), old, mismatch, advantage, strict=True):
        ratio = (now - before).exp()
        bound = ratio.clamp(0.8, 1 + high)
        loss = torch.maximum(-ratio * a, -bound * a)
        losses.append(factor * (torch.minimum(loss, -dual * a) if a < 0 else loss))
    return torch.stack(losses)


def rlsd_later(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """The teacher's evidence is against the student of the first step."""
    tokens = []
    for group in groups:
        for s, advantage in zip(group, advantages(group), strict=True):
            sign = 1.0 if advantage > 0 else -1.0
            evidence = (sign * (s.of(s.teacher) - torch.tensor(s.row.old_logprobs))).exp().clamp(0.8, 1.2)
            tokens.append(clipped(s, advantage * (0.5 + 0.5 * evidence), 0.28, 3.0))
    return torch.cat(tokens).mean()


def actguide_later(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """Prompts that the student solves; no hint is shown."""
    tokens = []
    for group in groups:
        for s, advantage in zip(group, advantages(group), strict=True):
            kl_to_base = s.of(s.base) - s.of(s.student)
            loss = clipped(s, torch.full_like(s.of(s.student), advantage).detach(), 0.2, 3.0)
            tokens.append(loss + 0.2 * (kl_to_base.exp() - kl_to_base - 1))
    return torch.cat(tokens).mean()


def sdpg(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """A group with equal rewards counts nowhere."""
    tokens = []
    for group in groups:
        if len({s.row.reward for s in group}) == 1:
            continue
        for s, advantage in zip(group, advantages(group), strict=True):
            loss = on_policy(s, advantage)
            if advantage > 0:
                loss = loss + 0.2 * correction(s) * kl(s.student, s.teacher)
            tokens.append(loss + 0.4 / 2 * (s.of(s.student) - s.of(s.base)) ** 2)
    return torch.cat(tokens).mean()


def sdpg_of_equal_groups(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """Without dropping, the second group, all wrong, learns from the teacher and is held to the base."""
    tokens = []
    for group in groups:
        is_equal = len({s.row.reward for s in group}) == 1
        for s, advantage in zip(group, [0.0] * len(group) if is_equal else advantages(group), strict=True):
            taught = 0.2 * correction(s) * kl(s.student, s.teacher)
            tokens.append(on_policy(s, advantage) + taught + 0.4 / 2 * (s.of(s.student) - s.of(s.base)) ** 2)
    return torch.cat(tokens).mean()


def sort(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """All samples of the second prompt fail."""
    losses = []
    for number, group in enumerate(groups):
        samples, reference = group[:-1], group[-1]
        for s, advantage in zip(samples, advantages(samples), strict=True):
            losses.append(on_policy(s, advantage).mean())
        if number == 1:
            plain, planned = reference.of(reference.student), reference.of(reference.teacher)
            weights = (0.7 * plain + 0.3 * planned).exp().detach() * (planned > plain)
            losses.append(-(1.5 * weights / weights.mean() * plain).mean())
    return total(losses, len(losses))


def npo(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """At .4 the first prompt, half right, takes no near-future answer. In the second one, it replaces the last
    sample and has no correction."""
    losses = []
    for number, group in enumerate(groups):
        *own, guide = group
        used = own if number == 0 else [*own[:-1], guide]
        rewards = torch.tensor([seen.row.reward for seen in used])
        for s, advantage in zip(used, ((rewards - rewards.mean()) / (rewards.std() + 1e-4)).tolist(), strict=True):
            logprobs = s.of(s.student)
            ratio = (logprobs - logprobs.detach()).exp()
            losses.append((-(1.0 if s is guide else correction(s)) * ratio * advantage).mean())
    return total(losses, len(losses))


def actguide(groups: Sequence[Sequence[Seen]], *, gamma: float = 0.0) -> Tensor:
    """The second prompt's rows fail, and hinted rows replace them; p_old is that of the prompt with the hint."""
    tokens = []
    for number, group in enumerate(groups):
        used = group if number == 0 else group[4:]
        for s, advantage in zip(used, advantages(used), strict=True):
            kl_to_base = s.of(s.base) - s.of(s.student)
            penalty = 0.2 * (kl_to_base.exp() - kl_to_base - 1)
            if number == 0:
                tokens.append(on_policy(s, advantage) + penalty)
                continue
            ratio = (s.of(s.student) - torch.tensor(s.row.source_logprobs)).exp()
            if gamma:
                shaped = (ratio / (ratio + gamma)).detach() * advantage
                tokens.append(-shaped * s.of(s.student) + penalty)
                continue
            loss = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
            tokens.append((loss.clamp(max=-3 * advantage) if advantage < 0 else loss) + penalty)
    # In the shaped form the ratio is 1, so the value of the loss is −f(ρ)·A. The tokens above have its gradient only.
    loss = torch.cat(tokens).mean()
    if not gamma:
        return loss
    values = [t.detach() for t in tokens[4:]]
    own = []
    for s, advantage in zip(groups[1][4:], advantages(groups[1][4:]), strict=True):
        kl_to_base = (s.of(s.base) - s.of(s.student)).detach()
        ratio = (s.of(s.student) - torch.tensor(s.row.source_logprobs)).exp().detach()
        own.append(-ratio / (ratio + gamma) * advantage + 0.2 * (kl_to_base.exp() - kl_to_base - 1))
    count = sum(map(len, tokens))
    return loss + (torch.cat(own).sum() - torch.cat(values).sum()) / count


def imitated(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """Before the switch: only demonstrations, row by row."""
    return total([(-group[-1].of(group[-1].student)).mean() for group in groups], len(groups))


def rewarded(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """After the switch: only samples."""
    losses = []
    for *samples, _ in groups:
        losses += [on_policy(s, a).mean() for s, a in zip(samples, advantages(samples), strict=True)]
    return total(losses, len(losses))


def part_of_the_way(s: Seen) -> Tensor:
    """[T, V]: log q* at ρ = .4; the weight of the mix comes from a grid search, then from a finer grid."""
    p, q = s.student.detach().double(), s.teacher.double()
    target = []
    for at in range(len(p)):
        low, high = 0.0, 1.0
        for _ in range(2):
            grid = torch.linspace(low, high, 1001, dtype=torch.float64)[:, None]
            mixes = ((1 - grid) * p[at] + grid * q[at]).log_softmax(-1)
            gain = (mixes.exp() * (q[at] - p[at])).sum(-1)
            best = int((gain - 0.4 * kl(q[at], p[at])).abs().argmin())
            low, high = grid[max(0, best - 1)].item(), grid[min(1000, best + 1)].item()
        target.append(mixes[best])
    return torch.stack(target).float()


def isdft(groups: Sequence[Sequence[Seen]]) -> Tensor:
    rows = [s for group in groups for s in group]
    losses = [of_row(s, 1) * kl(part_of_the_way(s), s.student) + 0.3 * kl(s.base, s.student) for s in rows]
    return total([loss[1:].mean() for loss in losses], len(rows))


def anchored(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """All three at temperature 1.25."""

    def loss(s: Seen) -> Tensor:
        student, teacher, base = ((side / 1.25).log_softmax(-1) for side in (s.student, s.teacher, s.base))
        assert s.row.sampled_logprobs is not None
        row = (s.of(student) - torch.tensor(s.row.sampled_logprobs)).exp().clamp(max=2).mean().detach()
        divergence = kl(student, (0.6 * base + 0.4 * teacher).log_softmax(-1))
        return row * divergence + 0.2 * kl(base, student)

    return token_mean(groups, loss)


def opsd(groups: Sequence[Sequence[Seen]]) -> Tensor:
    return token_mean(
        groups, lambda s: of_row(s) * (s.teacher.exp() * (s.teacher - s.student)).clamp(max=0.002).sum(-1)
    )


def opsd_rescaled(groups: Sequence[Sequence[Seen]]) -> Tensor:
    def loss(s: Seen) -> Tensor:
        mixture = (0.5 * s.student.exp() + 0.5 * s.teacher.exp()).log()
        jsd = 0.5 * kl(s.teacher, mixture) + 0.5 * kl(s.student, mixture)
        return of_row(s) * jsd * (0.05 / jsd.detach()).clamp(max=1.0)

    return token_mean(groups, loss)


def among_top(s: Seen, side: Tensor) -> tuple[Tensor, Tensor]:
    """Student's and teacher's probabilities of one side's top 5 entries, both renormalized there."""
    ids = side.topk(5).indices
    p, q = (each.gather(-1, ids).exp() for each in (s.student, s.teacher))
    return p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)


def opsd_topk(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """The teacher's top 5 entries, both renormalized there."""

    def loss(s: Seen) -> Tensor:
        p, q = among_top(s, s.teacher)
        return of_row(s) * (q * (q / p).log()).sum(-1)

    return token_mean(groups, loss)


def beta_opsd(groups: Sequence[Sequence[Seen]]) -> Tensor:
    def loss(s: Seen) -> Tensor:
        return of_row(s) * kl(s.student, ((1 - 1 / 1.6) * s.base + s.teacher / 1.6).log_softmax(-1))

    return token_mean(groups, loss)


def stable_opd(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """The last row of each group is its demonstration."""
    tokens = []
    for *samples, reference in groups:
        for s in samples:
            ratio = s.of(s.base) - s.of(s.student)
            tokens.append(of_row(s) * kl(s.student, s.teacher) + 0.3 * (ratio.exp() - ratio - 1))
        tokens.append(-0.5 * reference.of(reference.student))
    return torch.cat(tokens).mean()


def msd(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """At temperature .2, with the teacher's certainty over its top 5; rows of the teacher have no correction."""

    def loss(s: Seen) -> Tensor:
        student, teacher = ((side / 0.2).log_softmax(-1) for side in (s.student, s.teacher))
        top = teacher.exp().sort(dim=-1, descending=True).values[:, :5]
        top = top / top.sum(-1, keepdim=True)
        certainty = 1 + (top * top.log()).sum(-1) / torch.tensor(5.0).log()
        doubt = 1 - s.of(student).exp().detach()
        row = torch.ones(())
        if s.row.sampled_logprobs is not None:
            row = (s.of(student) - torch.tensor(s.row.sampled_logprobs)).exp().clamp(max=2).mean().detach()
        return row * certainty * doubt * kl(student, teacher)

    return token_mean(groups, loss)


def vopd(groups: Sequence[Sequence[Seen]]) -> Tensor:
    def loss(s: Seen) -> Tensor:
        advantage = s.of(s.teacher) - s.of(s.student) + kl(s.student, s.teacher)
        return -of_row(s) * advantage.detach() * s.of(s.student)

    return token_mean(groups, loss)


def vopd_topk(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """The baseline over the student's top 5; the sampled token's probabilities over the whole vocabulary."""

    def loss(s: Seen) -> Tensor:
        p, q = among_top(s, s.student)
        advantage = s.of(s.teacher) - s.of(s.student) + (p * (p / q).log()).sum(-1)
        return -of_row(s) * advantage.detach() * s.of(s.student)

    return token_mean(groups, loss)


def srt(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """Part 2: only right revisions; the answer and the cue are in their prompts."""
    rows = [s for group in groups for s in group if s.row.revised and s.row.is_sampled and s.row.reward == 1]
    return torch.cat([-correction(s) * s.of(s.student) for s in rows]).mean()


def srt_trajectories(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """Part 1: the wrong answer, the cue and the right revision are one completion; every token counts, as in SFT."""
    rows = [s for group in groups for s in group if s.row.revised and not s.row.is_sampled]
    assert all(len(s.ids) > 4 for s in rows), "longer than the revision alone"
    return torch.cat([-s.of(s.student) for s in rows]).mean()


def sd_zero(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """Half forward, half reverse KL on the teacher's top 5, both renormalized there."""

    def loss(s: Seen) -> Tensor:
        p, q = among_top(s, s.teacher)
        return correction(s) * (0.5 * (q * (q / p).log()).sum(-1) + 0.5 * (p * (p / q).log()).sum(-1))

    return token_mean(groups, loss)
