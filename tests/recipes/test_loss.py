"""`holdfast.recipes`: loss and gradients of each recipe equal its paper's formula, see `recipe_formulas.py`.

The engine runs on a tiny model with both forms of the loss. The formulas use plain torch, with the logits of student,
teacher and base from plain forward passes.
"""

import random
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from holdfast.config.settings import ModelSettings, TrainSettings
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.rows import Group, Row
from holdfast.model.base import Base
from holdfast.model.load import load_policy
from holdfast.recipes import (
    ASFT,
    ATESD,
    CPO,
    DFT,
    EAFT,
    GRPO,
    ISDFT,
    KLSFT,
    MSD,
    NPO,
    OPSD,
    RAD,
    RFT,
    RLSD,
    SCSDPO,
    SDFT,
    SDPG,
    SDPO,
    SORT,
    TALR,
    TMKL,
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
from recipe_formulas import (
    Formula,
    Seen,
    actguide,
    actguide_later,
    anchored,
    asft,
    beta_opsd,
    correct_only,
    cpo,
    dft,
    eaft,
    imitated,
    isdft,
    kl_sft,
    lwf,
    msd,
    npo,
    of_row,
    opsd,
    opsd_rescaled,
    opsd_topk,
    rad,
    replay,
    rewarded,
    rft,
    rlsd,
    rlsd_later,
    sc_sdpo,
    sd_zero,
    sdft,
    sdpg,
    sdpg_of_equal_groups,
    sdpo,
    sort,
    srt,
    srt_trajectories,
    stable_opd,
    talr,
    tmkl,
    trusted,
    vopd,
    vopd_topk,
)

REWARDS = ([1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.2])

ASKED = (Message(role="user", content="?"),)
STEPS = ("Take six.", "Add four.", "Halve it.", "5")

Engine = Literal["fused", "readable"]


CASES: dict[str, tuple[Recipe, Formula]] = {
    "dft": (DFT(), dft),
    "asft": (ASFT(beta=0.3), asft),
    "talr": (TALR(least_weight=0.4), talr),
    "eaft": (EAFT(alpha=2.0, top_k=5, scale=2.0), eaft),
    "tmkl": (TMKL(beta=0.7), tmkl),
    "rad": (RAD(beta=0.7), rad),
    "cpo": (CPO(), cpo),
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
    "sd_zero, phase 1, part 1": (SDZero(phase=1, srt_part=1), srt_trajectories),
    "sd_zero, phase 1, part 2": (SDZero(phase=1, srt_part=2, revise_right_answers=True), srt),
    "sd_zero, phase 2": (SDZero(phase=2, top_k=5), sd_zero),
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
    """Two annotated prompts with the rewards `REWARDS`; teacher prompts are random token ids."""
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
            row.replayed = recipe.rollout_spec().replay_ratio > 0 and number == 1
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
            near_future = Row(example, prompt, own, verdict=Verdict(1.0))
            near_future.source_logprobs = [-rng.uniform(4.5, 7) for _ in own]
            group.rows.append(near_future)
        if recipe.hints() is not None and number == 1:
            for row, reward in zip(list(group.rows), (0.0, 1.0, 1.0, 0.4), strict=True):
                row.verdict = Verdict(0.0)
                own = ids(5)
                hinted = Row(example, prompt, own, verdict=Verdict(reward))
                hinted.source_logprobs = [-rng.uniform(5, 7) for _ in own]
                group.rows.append(hinted)
            group.shown_actions = 1
        if (revision := recipe.rollouts().revision) is not None:
            for row in [row for row in group.rows if revision.of_right_answers or not row.reward]:
                behind = Row(example, [*prompt, *row.completion_ids, *ids(3)], ids(4), revised=True)
                behind.sampled_logprobs = [-rng.uniform(4.5, 7) for _ in range(4)]
                behind.verdict = Verdict(1 - row.reward)
                group.rows.append(behind)
                if revision.with_trajectories:
                    own, whole = len(prompt), [*behind.prompt_ids, *behind.completion_ids]
                    right = Verdict(1 - row.reward)
                    group.rows.append(Row(example, whole[:own], whole[own:], revised=True, verdict=right))
        groups.append(group)
    recipe.annotate(groups)
    for row in (row for group in groups for row in group.rows):
        row.teacher_prompt_ids = ids(rng.randint(2, 6)) if row.teacher_messages is not None else None
    return groups


@pytest.mark.parametrize("engine", ["fused", "readable"])
@pytest.mark.parametrize(("recipe", "formula"), [(RLSD(), rlsd_later), (ActGuide(beta=0.2), actguide_later)])
def test_later_steps_on_a_rollout_batch_are_clipped_as_the_released_code_clips_them(
    tiny_model: Path, recipe: Recipe, formula: Formula, engine: Engine
) -> None:
    """Ratios from .1 to 10 reach every clip, the dual clip included."""
    groups, rng = groups_for(GRPO()), random.Random(5)
    for row in (row for group in groups for row in group.rows):
        row.teacher_prompt_ids = [rng.randrange(5, 200) for _ in range(4)]
        assert row.sampled_logprobs is not None
        row.old_logprobs = [each + rng.uniform(-2.3, 2.3) for each in row.sampled_logprobs]
    recipe.annotate(groups)
    assert_computes(tiny_model, recipe, formula, groups, engine)


@pytest.mark.parametrize("engine", ["fused", "readable"])
@pytest.mark.parametrize("drop", [True, False])
def test_sdpg_drops_groups_without_variance(tiny_model: Path, drop: bool, engine: Engine) -> None:
    recipe = SDPG(distillation=0.2, beta=0.4, positive_advantages_only=drop, drop_equal_groups=drop)
    groups = groups_for(recipe)
    for row in groups[1].rows:
        row.verdict, row.div, row.base_kl, row.advantage = Verdict(0.0), 0.0, 0.0, 0.0
    recipe.annotate(groups)
    assert [row.excluded for row in groups[1].rows] == [drop] * 4
    assert_computes(tiny_model, recipe, sdpg if drop else sdpg_of_equal_groups, groups, engine)


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
"""What the teacher sees of a solution, by exposure and `keep_answer`; None for the plain prompt."""


@pytest.mark.parametrize("engine", ["fused", "readable"])
@pytest.mark.parametrize(("exposure", "keep_answer"), sorted(SHOWN))
def test_atesd_is_opsd_with_the_exposed_part_of_the_solution(
    tiny_model: Path, exposure: float, keep_answer: bool, engine: Engine
) -> None:
    chat_format = load_policy(ModelSettings(path=str(tiny_model))).chat_format
    recipe = ATESD(exposure=exposure, keep_answer=keep_answer, clip_at=0.002, temperature=1.0)
    shown = SHOWN[exposure, keep_answer]
    asked = "?"
    if shown is not None:
        asked += (
            f"\n\nHere is a reference solution to this problem:\n{shown}\n\nUnderstand it and the reason for each of "
            "its steps. Then derive the same final answer, step by step, yourself."
        )
    expected = chat_format.encode_prompt((Message(role="user", content=asked),))
    groups = groups_for(recipe)
    for row in (row for group in groups for row in group.rows):
        assert row.teacher_messages is not None
        row.teacher_prompt_ids = chat_format.encode_prompt(row.teacher_messages)
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
    """Assert that a step on these rows has the loss and gradients of the formula.

    Args:
        teacher_prompt: the teacher's prompt of all rows; by default each row has its own.
    """
    other = load_policy(ModelSettings(path=str(folder)))
    base = Base(other)
    spec = recipe.teacher()
    teacher = Teacher(spec, other, base) if spec is not None else None
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # so that the base differs from the student
        for parameter in other.named_trainable().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    if teacher is not None and spec is not None and spec.stage_start == "student":
        teacher.start_stage()
        with torch.no_grad():  # and so that the student differs from the stage's start
            for parameter in other.named_trainable().values():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)

    def scored_by(source: Any, row: Row) -> Tensor:
        with source.scoring() as model:
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
            of_teacher = scored_by(teacher, row) if teacher is not None else of_base
            with torch.no_grad():
                shown = scored(other.model, prompt_of_teacher(row), row.completion_ids)
            seen[-1].append(Seen(row, torch.tensor(row.completion_ids), student, of_teacher.detach(), of_base, shown))
    expected = formula(seen)
    expected.backward()
    expected_gradients = {name: p.grad.clone() for name, p in other.named_trainable().items() if p.grad is not None}
    other.model.zero_grad(set_to_none=True)

    if recipe.rollouts().source == "student":
        sampled = [s for group in seen for s in group if s.row.is_sampled]
        assert all(abs(of_row(s).item() - 1) > 1e-3 for s in sampled if s.row.div), "the correction has an effect"
    trainer = StageTrainer(other, teacher, base, recipe.objective(), TrainSettings(engine=engine))
    numbers = trainer.forward_backward([row for group in groups for row in group.rows], where="here")
    assert numbers["loss"] == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)
    scale = max(float(g.abs().max()) for g in expected_gradients.values())
    assert scale > 1e-3
    for parameter, gradient in expected_gradients.items():
        actual = trainer.parameters[parameter].grad
        torch.testing.assert_close(
            actual, gradient, rtol=1e-3, atol=1e-4 * scale, msg=lambda m, n=parameter: f"{n}: {m}"
        )
