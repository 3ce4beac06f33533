"""What recipes made of shared parts compute: losses and gradients against their papers' formulas, written out here.

Each is run through the engine on a tiny model, both forms of the loss, with the logits of student, teacher and base
taken from plain forward passes; the expected loss is plain torch on these.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
import torch
from torch import Tensor

from holdfast.config.settings import ModelSettings, TrainSettings
from holdfast.data.chat import encode_prompt
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.rows import Group, Row
from holdfast.model.base import Base
from holdfast.model.load import load_policy
from holdfast.recipes import (
    ATESD,
    DFT,
    ISDFT,
    KLSFT,
    MSD,
    NPO,
    OPSD,
    RFT,
    RLSD,
    SCSDPO,
    SDFT,
    SDPG,
    SDPO,
    SORT,
    VOPD,
    ActGuide,
    Anchored,
    BetaOPSD,
    CorrectOnly,
    Replay,
    SDZero,
    SFTThenGRPO,
    StableOPD,
)
from holdfast.recipes.base.recipe import Recipe
from holdfast.train.step import StageTrainer
from holdfast.train.teacher import Teacher

REWARDS = ([1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.2])

ASKED = (Message(role="user", content="?"),)
STEPS = ("Take six.", "Add four.", "Halve it.", "5")

Engine = Literal["fused", "readable"]


class Seen(NamedTuple):
    """Of one row: its annotations, and log-probabilities [T, V] of the three models at its completion.

    The teacher has its own prompt; `shown` is the student with that prompt, detached.
    """

    row: Row
    ids: Tensor
    student: Tensor
    teacher: Tensor
    base: Tensor
    shown: Tensor

    def of(self, side: Tensor) -> Tensor:
        """[T], of the completion's tokens."""
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
    """SDFT's: the mean of the tokens' corrections over those that count."""
    return correction(seen)[skip:].mean()


def on_policy(seen: Seen, advantage: Tensor | float) -> Tensor:
    """The policy gradient's loss in a rollout batch's first step: the ratio is 1, and differentiable."""
    logprobs = seen.of(seen.student)
    return -correction(seen) * (logprobs - logprobs.detach()).exp() * advantage


def dft(groups: Sequence[Sequence[Seen]]) -> Tensor:
    return token_mean(groups, lambda s: -s.of(s.student).exp().detach() * s.of(s.student))


def kl_sft(groups: Sequence[Sequence[Seen]]) -> Tensor:
    return token_mean(groups, lambda s: -s.of(s.student) + 0.3 * kl(s.base, s.student))


def lwf(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """At temperature 2; the old model is the one at the stage's start."""

    def loss(s: Seen) -> Tensor:
        old, new = (side.exp() ** 0.5 for side in (s.teacher, s.student))
        old, new = old / old.sum(-1, keepdim=True), new / new.sum(-1, keepdim=True)
        return -s.of(s.student) + 0.3 * 4 * (old * (old / new).log()).sum(-1)

    return token_mean(groups, loss)


def replay(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """The second prompt's row is replayed; the mean is over all tokens, whatever they weigh."""
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
    """A row has a teacher where a sibling has succeeded; `weight` of the share of a prompt's samples that did."""
    losses = []
    for group in groups:
        succeeded = [s.row.reward >= 0.5 for s in group]
        for at, s in enumerate(group):
            if any(succeeded[:at] + succeeded[at + 1 :]):
                losses.append((correction(s) * top_jsd(s, teacher(s))).mean() * weight(sum(succeeded) / len(group)))
    return total(losses, sum(map(len, groups)))


def sdft(groups: Sequence[Sequence[Seen]], *, skip: int = 3, mix: float = 0.0) -> Tensor:
    """A row's correction is one number; a row that ends before the loss begins counts in the mean.

    Args:
        mix: the student's share of the teacher's logits.
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
    """A teacher of which four tenths are the student's."""
    return (0.6 * s.teacher + 0.4 * s.shown).log_softmax(-1)


def rft(groups: Sequence[Sequence[Seen]]) -> Tensor:
    kept = [[s for s in group if s.row.reward == 1][:1] for group in groups]
    rows = [s for group in kept for s in group]
    return total([(-correction(s) * s.of(s.student)).mean() for s in rows], len(rows))


def correct_only(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """With the first token of each completion skipped."""
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
    losses = []
    for group in groups:
        for s, advantage in zip(group, advantages(group), strict=True):
            sign = 1.0 if advantage > 0 else -1.0
            evidence = (sign * (s.of(s.teacher) - s.of(s.student))).exp().clamp(0.8, 1.2).detach()
            losses.append(on_policy(s, advantage * (0.5 + 0.5 * evidence)).mean())
    return total(losses, len(losses))


def sdpg(groups: Sequence[Sequence[Seen]]) -> Tensor:
    losses = []
    for group in groups:
        for s, advantage in zip(group, advantages(group), strict=True):
            loss = on_policy(s, advantage)
            if advantage > 0:
                loss = loss + 0.2 * correction(s) * kl(s.student, s.teacher)
            losses.append((loss + 0.4 / 2 * (s.of(s.student) - s.of(s.base)) ** 2).mean())
    return total(losses, len(losses))


def sort(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """Of the second prompt all samples fail."""
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
    """The first prompt's half is gated out at .4; the second's last sample makes room for the guide, uncorrected."""
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
    """The second prompt's rows failed, and guided ones replace them; p_old is what these were drawn with."""
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
            clipped = ratio.clamp(0.8, 1.2)
            tokens.append(-torch.minimum(ratio * advantage, clipped * advantage) + penalty)
    # In the shaped form the loss's value is −f(ρ)·A, as its ratio is 1; what is above has its gradient.
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
    """Before the switch: the demonstrations alone, row by row."""
    return total([(-group[-1].of(group[-1].student)).mean() for group in groups], len(groups))


def rewarded(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """After it: the samples alone."""
    losses = []
    for *samples, _ in groups:
        losses += [on_policy(s, a).mean() for s, a in zip(samples, advantages(samples), strict=True)]
    return total(losses, len(losses))


def part_of_the_way(s: Seen) -> Tensor:
    """[T, V]: log q* at ρ = .4; the weight of the mix is found by searching a grid, and a finer one where it lies."""
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
    """At temperature .2, with the teacher's certainty over its top five; its own rows are not corrected."""

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
    """Right revisions alone; the answer and the cue are in their prompts."""
    rows = [s for group in groups for s in group if s.row.revised and s.row.reward == 1]
    return torch.cat([-correction(s) * s.of(s.student) for s in rows]).mean()


def sd_zero(groups: Sequence[Sequence[Seen]]) -> Tensor:
    """JSD(.3) on the student's top 5 and the rest."""

    def loss(s: Seen) -> Tensor:
        ids = s.student.topk(5).indices
        p, q = (side.gather(-1, ids).exp() for side in (s.student, s.teacher))
        p, q = (torch.cat((side, 1 - side.sum(-1, keepdim=True)), -1) for side in (p, q))
        m = 0.7 * p + 0.3 * q
        return correction(s) * (0.3 * (q * (q / m).log()).sum(-1) + 0.7 * (p * (p / m).log()).sum(-1))

    return token_mean(groups, loss)


CASES: dict[str, tuple[Recipe, Formula]] = {
    "dft": (DFT(), dft),
    "kl_sft": (KLSFT(beta=0.3), kl_sft),
    "replay": (Replay(replay_weight=0.3), replay),
    "sdft": (SDFT(), sdft),
    "sdft, trust region": (
        SDFT(teacher_kind="trust_region", trust_region_mix=0.3, num_loss_tokens_to_skip=0),
        partial(sdft, skip=0, mix=0.3),
    ),
    "sdpo": (SDPO(), sdpo),
    "sdpo, trust region from the stage's start": (
        SDPO(teacher_kind="trust_region", trust_region_mix=0.4, stage_start="student"),
        partial(sdpo, teacher=trusted),
    ),
    "sc_sdpo, as it comes": (SCSDPO(), partial(sdpo, weight=lambda share: (share * (1 - share)) ** 0.5)),
    "kl_sft, LwF": (KLSFT(beta=0.3, distillation_temperature=2.0, old_model="stage_start"), lwf),
    "sd_zero, phase 1": (SDZero(phase=1), srt),
    "sd_zero, phase 2": (SDZero(phase=2, jsd_beta=0.3, top_k=5), sd_zero),
    "rft": (RFT(most_per_prompt=1), rft),
    "correct_only": (CorrectOnly(num_loss_tokens_to_skip=1), correct_only),
    "sc_sdpo": (SCSDPO(divergence="forward_kl", support="full"), sc_sdpo),
    "rlsd": (RLSD(), rlsd),
    "sort": (SORT(reference_weight=1.5, plan_share=0.3, rising_only=True, normalize_weights=True), sort),
    "npo": (NPO(max_success_fraction=0.4), npo),
    "actguide": (ActGuide(beta=0.2), actguide),
    "actguide, shaped": (ActGuide(beta=0.2, luffy_gamma=0.3), partial(actguide, gamma=0.3)),
    "sft_then_grpo, at first": (SFTThenGRPO(), imitated),
    "sft_then_grpo, later": (SFTThenGRPO(imitation=0.0), rewarded),
    "isdft": (ISDFT(target_fraction=0.4, mu=0.3, num_loss_tokens_to_skip=1), isdft),
    "anchored": (Anchored(beta=2.5, mu=0.2, temperature=1.25), anchored),
    "opsd": (OPSD(clip_at=0.002, temperature=1.0), opsd),
    "opsd, top-k": (OPSD(support="topk_renormalized", top_k=5, clip="none", temperature=1.0), opsd_topk),
    "opsd, rescaled": (OPSD(divergence="jsd", clip="token", temperature=1.0), opsd_rescaled),
    "beta_opsd": (BetaOPSD(beta=1.6, temperature=1.0), beta_opsd),
    "stable_opd": (StableOPD(beta=0.3, demonstration_weight=0.5), stable_opd),
    "msd": (MSD(entropy_top_k=5, temperature=0.2), msd),
    "msd, off-policy": (MSD(sampled_by="teacher", entropy_top_k=5, temperature=0.2), msd),
    "vopd": (VOPD(), vopd),
    "vopd, top-k baseline": (VOPD(baseline="topk", top_k=5), vopd_topk),
    "sdpg": (SDPG(distillation=0.2, beta=0.4, positive_advantages_only=True), sdpg),
}


def groups_for(recipe: Recipe) -> list[Group]:
    """Two prompts, rewarded as `REWARDS` says, annotated; teacher prompts are random where the recipe asks for one."""
    rng = random.Random(3)
    groups = []
    demonstrated = recipe.rollouts().source == "demonstrations"

    def ids(count: int) -> list[int]:
        return [rng.randrange(5, 200) for _ in range(count)]

    for number, rewards in enumerate(REWARDS):
        example = Example(f"e{number}", ASKED, demonstration="so", plan="by adding", translation=ASKED, solution=STEPS)
        group, prompt = Group(example), ids(rng.randint(2, 6))
        for reward in rewards[: 1 if demonstrated else None]:
            completion = ids(rng.randint(2, 6))
            row = Row(example, prompt, completion, completion=f"answer {len(group.rows)}")
            if not demonstrated:
                row.sampled_logprobs = [-rng.uniform(4.5, 7) for _ in completion]
                row.verdict = Verdict(reward)
            row.replayed = recipe.rollouts().replay_ratio > 0 and number == 1
            if recipe.rollouts().prompt == "teacher":
                row.source_logprobs, row.sampled_logprobs = row.sampled_logprobs, None
            group.rows.append(row)
        if recipe.rollouts().with_demonstration:
            group.rows.append(Row(example, prompt, ids(6)))
            if number == 1:
                for row in group.rows[:-1]:
                    row.verdict = Verdict(row.reward / 2)
        if recipe.near_future() is not None:
            own = ids(5)
            guide = Row(example, prompt, own, verdict=Verdict(1.0))
            guide.source_logprobs = [-rng.uniform(4.5, 7) for _ in own]
            group.rows.append(guide)
        if recipe.hints() is not None and number == 1:
            for row, reward in zip(list(group.rows), (0.0, 1.0, 1.0, 0.4), strict=True):
                row.verdict = Verdict(0.0)
                own = ids(5)
                guided = Row(example, prompt, own, verdict=Verdict(reward))
                guided.source_logprobs = [-rng.uniform(5, 7) for _ in own]
                group.rows.append(guided)
            group.shown_actions = 1
        if recipe.rollouts().revision is not None:
            for row in list(group.rows):
                behind = Row(example, [*prompt, *row.completion_ids, *ids(3)], ids(4), revised=True)
                behind.sampled_logprobs = [-rng.uniform(4.5, 7) for _ in range(4)]
                behind.verdict = Verdict(1 - row.reward)
                group.rows.append(behind)
        groups.append(group)
    recipe.annotate(groups)
    for row in (row for group in groups for row in group.rows):
        row.teacher_prompt_ids = ids(rng.randint(2, 6)) if row.teacher_messages is not None else None
    return groups


def scored(model: Any, prompt: list[int], completion: list[int]) -> Tensor:
    logits = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
    return logits.float().log_softmax(-1)


@pytest.mark.parametrize("engine", ["fused", "readable"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_loss_and_gradients_are_the_formulas(tiny_model: Path, name: str, engine: Engine) -> None:
    recipe, formula = CASES[name]
    assert_computes(tiny_model, recipe, formula, groups_for(recipe), engine)


SHOWN = {
    (0.5, True): "Take six.\nAdd four.\n5",
    (0.5, False): "Take six.\nAdd four.",
    (0.7, True): "Take six.\nAdd four.\nHalve it.\n5",
    (1.0, False): "Take six.\nAdd four.\nHalve it.\n5",
    (0.0, False): None,
}
"""What the teacher sees of a solution, by exposure and whether the answer is kept; nothing: it is asked plainly."""


@pytest.mark.parametrize("engine", ["fused", "readable"])
@pytest.mark.parametrize(("exposure", "keep_answer"), sorted(SHOWN))
def test_atesd_is_opsd_behind_the_part_of_the_solution_that_is_exposed(
    tiny_model: Path, exposure: float, keep_answer: bool, engine: Engine
) -> None:
    tokenizer = load_policy(ModelSettings(path=str(tiny_model))).tokenizer
    recipe = ATESD(exposure=exposure, keep_answer=keep_answer, clip_at=0.002, temperature=1.0)
    shown = SHOWN[exposure, keep_answer]
    asked = "?"
    if shown is not None:
        asked += (
            f"\n\nHere is a reference solution to this problem:\n{shown}\n\nUnderstand it and the reason for each of "
            "its steps. Then derive the same final answer, step by step, yourself."
        )
    expected = encode_prompt(tokenizer, (Message(role="user", content=asked),))
    groups = groups_for(recipe)
    for row in (row for group in groups for row in group.rows):
        assert row.teacher_messages is not None
        row.teacher_prompt_ids = encode_prompt(tokenizer, row.teacher_messages)
    assert_computes(tiny_model, recipe, opsd, groups, engine, teacher_prompt=expected)


def assert_computes(
    folder: Path,
    recipe: Recipe,
    formula: Formula,
    groups: list[Group],
    engine: Engine,
    *,
    teacher_prompt: list[int] | None = None,
) -> None:
    """A step on these rows has the loss and the gradients of the formula.

    Args:
        teacher_prompt: of all rows, where it is not taken from them.
    """
    other = load_policy(ModelSettings(path=str(folder)))
    base = Base(other)
    spec = recipe.teacher()
    teacher = Teacher(spec, other, base) if spec is not None else None
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # so that the base is another model than the student
        for parameter in other.named_trainable().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    if teacher is not None and spec is not None and spec.stage_start == "student":
        teacher.start_stage()
        with torch.no_grad():  # and so that the student is another than at the stage's start
            for parameter in other.named_trainable().values():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)

    def says(speaker: Any, row: Row) -> Tensor:
        with speaker.scoring() as model:
            return scored(model.model, prompt_of_teacher(row), row.completion_ids)

    def prompt_of_teacher(row: Row) -> list[int]:
        return teacher_prompt or row.teacher_prompt_ids or row.prompt_ids

    seen = []
    for group in groups:
        seen.append([])
        for row in group.rows:
            student = scored(other.model, row.prompt_ids, row.completion_ids)
            with base.scoring() as model:
                of_base = scored(model.model, row.prompt_ids, row.completion_ids)
            of_teacher = says(teacher, row) if teacher is not None else of_base
            with torch.no_grad():
                shown = scored(other.model, prompt_of_teacher(row), row.completion_ids)
            seen[-1].append(Seen(row, torch.tensor(row.completion_ids), student, of_teacher.detach(), of_base, shown))
    expected = formula(seen)
    expected.backward()
    wanted = {name: p.grad.clone() for name, p in other.named_trainable().items() if p.grad is not None}
    other.model.zero_grad(set_to_none=True)

    if recipe.rollouts().source == "student":
        drawn = [s for group in seen for s in group if s.row.is_sampled]
        assert all(abs(of_row(s).item() - 1) > 1e-3 for s in drawn if s.row.div), "a correction shows"
    trainer = StageTrainer(other, teacher, base, recipe.objective(), TrainSettings(engine=engine))
    numbers = trainer.forward_backward([row for group in groups for row in group.rows], where="here")
    assert numbers["loss"] == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)
    scale = max(float(g.abs().max()) for g in wanted.values())
    assert scale > 1e-3
    for parameter, gradient in wanted.items():
        found = trainer.parameters[parameter].grad
        torch.testing.assert_close(
            found, gradient, rtol=1e-3, atol=1e-4 * scale, msg=lambda m, n=parameter: f"{n}: {m}"
        )
