"""`holdfast.recipes.base.distillation`: the settings of a divergence change the loss; unused settings are refused.

The losses are written out in numpy, in float64, from the papers' formulas.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from holdfast.data.rows import Group
from holdfast.recipes import (
    ATESD,
    GRPO,
    ISDFT,
    MSD,
    OPSD,
    RAD,
    RECIPES,
    RLSD,
    SCSDPO,
    SDFT,
    SDPO,
    SFT,
    VOPD,
    Anchored,
    BetaOPSD,
    CorrectOnly,
    Replay,
    SDZero,
    StableOPD,
)
from holdfast.recipes.base.recipe import Recipe
from objective_factory import MAX_LENGTH, Step, make_step

Floats = NDArray[np.float64]


class Loss(NamedTuple):
    """A loss as in a paper; `expected` computes it."""

    divergence: str
    beta: float = 0.5
    support: str = "full"
    top_k: int = 0
    by: str = "student"
    clip: str = "none"
    clip_at: float = 0.05
    cap: float = 2.0
    correction: str = "row"
    aggregation: str = "token_mean"
    temperature: float = 1.0
    baseline: bool = False
    base_weight: float = 0.0


def log_softmax(logits: Floats) -> Floats:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def expected(step: Step, loss: Loss) -> float:
    """The loss of a step in which every row has a teacher."""
    rows: list[Floats] = []
    for row, *sides in zip(step.rows, step.student, step.teacher, step.base, strict=True):
        student, teacher, base = (log_softmax(side.numpy() / loss.temperature) for side in sides)
        at = np.arange(len(student)), row.completion_ids
        ratio = np.minimum(np.exp(student[at] - np.array(row.sampled_logprobs)), loss.cap)
        weight = {"row": np.full_like(ratio, ratio.mean()), "token": ratio}[loss.correction]
        if loss.support == "sampled":
            reverse = (np.exp(student) * (student - teacher)).sum(-1) if loss.baseline else 0.0
            divergence = (student[at] - teacher[at] - reverse) * student[at]
        else:
            divergence = np.array([of_token(p, q, loss) for p, q in zip(np.exp(student), np.exp(teacher))])
        distance = base[at] - student[at]
        rows.append(weight * divergence + loss.base_weight * (np.exp(distance) - distance - 1))
    if loss.aggregation == "token_mean":
        return float(np.concatenate(rows).mean())
    if loss.aggregation == "constant":
        return float(sum(row.sum() for row in rows) / (len(rows) * MAX_LENGTH))
    return float(np.mean([row.mean() for row in rows]))


def of_token(p: Floats, q: Floats, loss: Loss) -> float:
    if loss.support != "full":
        ids = np.argsort(-(p if loss.by == "student" else q))[: loss.top_k]
        rest = 1 - p[ids].sum(), 1 - q[ids].sum()
        p, q = p[ids], q[ids]
        if loss.support == "topk_tail":
            p, q = np.append(p, rest[0]), np.append(q, rest[1])
        else:
            p, q = p / p.sum(), q / q.sum()
    m = (1 - loss.beta) * p + loss.beta * q
    terms = {
        "forward_kl": q * np.log(q / p),
        "reverse_kl": p * np.log(p / q),
        "jsd": loss.beta * q * np.log(q / m) + (1 - loss.beta) * p * np.log(p / m),
        "mixed_kl": loss.beta * q * np.log(q / p) + (1 - loss.beta) * p * np.log(p / q),
    }[loss.divergence]
    if loss.clip == "entry":
        terms = np.minimum(terms, loss.clip_at)
    total = float(terms.sum())
    return min(total, loss.clip_at) if loss.clip == "token" else total


TAIL, RENORMALIZED = {"support": "topk_tail"}, {"support": "topk_renormalized"}

SETTINGS: list[tuple[type[Recipe], dict[str, Any], Loss]] = [
    (OPSD, {}, Loss("forward_kl", clip="entry", temperature=1.1)),
    (OPSD, {"divergence": "jsd", "jsd_beta": 0.2}, Loss("jsd", 0.2, clip="entry", temperature=1.1)),
    (OPSD, {**TAIL, "top_k": 3}, Loss("forward_kl", 0, "topk_tail", 3, "teacher", "entry", temperature=1.1)),
    (OPSD, {**RENORMALIZED, "top_k": 3, "clip": "none"},
     Loss("forward_kl", 0, "topk_renormalized", 3, "teacher", temperature=1.1)),
    (OPSD, {**RENORMALIZED, "top_k": 2, "clip": "none"},
     Loss("forward_kl", 0, "topk_renormalized", 2, "teacher", temperature=1.1)),
    (OPSD, {**RENORMALIZED, "top_k": 3, "top_k_by": "student", "clip": "none"},
     Loss("forward_kl", 0, "topk_renormalized", 3, "student", temperature=1.1)),
    (OPSD, {**RENORMALIZED, "top_k": 3, "divergence": "reverse_kl", "clip": "none"},
     Loss("reverse_kl", 0, "topk_renormalized", 3, "student", temperature=1.1)),
    (OPSD, {**RENORMALIZED, "top_k": 3, "divergence": "reverse_kl", "top_k_by": "teacher", "clip": "none"},
     Loss("reverse_kl", 0, "topk_renormalized", 3, "teacher", temperature=1.1)),
    (OPSD, {"importance_cap": 1.25}, Loss("forward_kl", clip="entry", temperature=1.1, cap=1.25)),
    (ATESD, {**TAIL, "top_k": 3}, Loss("forward_kl", 0, "topk_tail", 3, "teacher", "entry", temperature=1.1)),
    (ATESD, {"importance_cap": 1.25}, Loss("forward_kl", clip="entry", temperature=1.1, cap=1.25)),
    (VOPD, {}, Loss("reverse_kl", support="sampled", baseline=True)),
    (VOPD, {"baseline": "none"}, Loss("reverse_kl", support="sampled")),
    (VOPD, {"importance_cap": 1.25}, Loss("reverse_kl", support="sampled", baseline=True, cap=1.25)),
    (VOPD, {"temperature": 0.7}, Loss("reverse_kl", support="sampled", baseline=True, temperature=0.7)),
    (VOPD, {"aggregation": "sequence_mean"},
     Loss("reverse_kl", support="sampled", baseline=True, aggregation="sequence_mean")),
    (VOPD, {"support": "full"}, Loss("reverse_kl")),
    (VOPD, {"support": "full", "divergence": "forward_kl"}, Loss("forward_kl")),
    (VOPD, {"support": "full", "clip": "token", "clip_at": 0.3}, Loss("reverse_kl", clip="token", clip_at=0.3)),
    (VOPD, {"support": "full", "clip": "entry"}, Loss("reverse_kl", clip="entry")),
    (VOPD, {**RENORMALIZED, "top_k": 3}, Loss("reverse_kl", 0, "topk_renormalized", 3)),
    (StableOPD, {}, Loss("reverse_kl", base_weight=0.05)),
    (StableOPD, {"divergence": "forward_kl"}, Loss("forward_kl", base_weight=0.05)),
    (StableOPD, {"clip": "token", "clip_at": 0.3}, Loss("reverse_kl", clip="token", clip_at=0.3, base_weight=0.05)),
    (StableOPD, {"temperature": 0.7}, Loss("reverse_kl", temperature=0.7, base_weight=0.05)),
    (StableOPD, {"importance_cap": 1.25}, Loss("reverse_kl", cap=1.25, base_weight=0.05)),
    (SDFT, {}, Loss("forward_kl", aggregation="sequence_mean")),
    (SDFT, {"divergence": "jsd", "jsd_beta": 0.2}, Loss("jsd", 0.2, aggregation="sequence_mean")),
    (SDFT, {**TAIL, "top_k": 3}, Loss("forward_kl", 0, "topk_tail", 3, aggregation="sequence_mean")),
    (SDFT, {**TAIL, "top_k": 2}, Loss("forward_kl", 0, "topk_tail", 2, aggregation="sequence_mean")),
    (SDFT, {**TAIL, "top_k": 3, "top_k_by": "divergence"},
     Loss("forward_kl", 0, "topk_tail", 3, "teacher", aggregation="sequence_mean")),
    (SDFT, {**RENORMALIZED, "top_k": 3}, Loss("forward_kl", 0, "topk_renormalized", 3, aggregation="sequence_mean")),
    (SDPO, {"top_k": 3}, Loss("jsd", 0.5, "topk_tail", 3, correction="token", aggregation="sequence_mean")),
    (SDPO, {"top_k": 2}, Loss("jsd", 0.5, "topk_tail", 2, correction="token", aggregation="sequence_mean")),
    (SDPO, {"top_k": 3, "top_k_by": "teacher"},
     Loss("jsd", 0.5, "topk_tail", 3, "teacher", correction="token", aggregation="sequence_mean")),
    (SDPO, {"top_k": 3, "jsd_beta": 0.2},
     Loss("jsd", 0.2, "topk_tail", 3, correction="token", aggregation="sequence_mean")),
    (SDPO, {"support": "full"}, Loss("jsd", 0.5, correction="token", aggregation="sequence_mean")),
    (SDPO, {"top_k": 3, "divergence": "forward_kl"},
     Loss("forward_kl", 0, "topk_tail", 3, correction="token", aggregation="sequence_mean")),
    (SCSDPO, {"top_k": 3, **RENORMALIZED},
     Loss("jsd", 0.5, "topk_renormalized", 3, correction="token", aggregation="sequence_mean")),
    (SDZero, {"phase": 2, "top_k": 3}, Loss("mixed_kl", 0.5, "topk_renormalized", 3, "teacher", correction="token")),
    (SDZero, {"phase": 2, "top_k": 3, "forward_share": 0.2},
     Loss("mixed_kl", 0.2, "topk_renormalized", 3, "teacher", correction="token")),
    (SDZero, {"phase": 2, "top_k": 3, "top_k_by": "student"},
     Loss("mixed_kl", 0.5, "topk_renormalized", 3, correction="token")),
    (SDZero, {"phase": 2, "top_k": 3, "divergence": "jsd", "jsd_beta": 0.2, **TAIL, "top_k_by": "student"},
     Loss("jsd", 0.2, "topk_tail", 3, correction="token")),
    (SDZero, {"phase": 2, "support": "full"}, Loss("mixed_kl", 0.5, correction="token")),
    (SDZero, {"phase": 2, "top_k": 3, "importance_cap": 1.25},
     Loss("mixed_kl", 0.5, "topk_renormalized", 3, "teacher", correction="token", cap=1.25)),
    (SDZero, {"phase": 2, "top_k": 3, "aggregation": "constant"},
     Loss("mixed_kl", 0.5, "topk_renormalized", 3, "teacher", correction="token", aggregation="constant")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "settings", "loss"), SETTINGS, ids=str)
def test_a_setting_changes_the_loss_as_described(kind: type[Recipe], settings: dict[str, Any], loss: Loss) -> None:
    step = make_step([6, 3, 8], div=1.0, base_kl=1.0)
    objective = kind(**settings).objective()
    assert step.loss(objective)[0].item() == pytest.approx(expected(step, loss), rel=1e-6)


def test_all_these_losses_differ() -> None:
    """Otherwise a setting without an effect would pass the test above."""
    step = make_step([6, 3, 8], div=1.0, base_kl=1.0)
    found: dict[float, Loss] = {}
    for _, _, loss in SETTINGS:
        assert found.setdefault(round(expected(step, loss), 7), loss) == loss


SAMPLED: list[Callable[[float], Recipe]] = [
    lambda cap: ISDFT(importance_cap=cap, num_loss_tokens_to_skip=0),
    lambda cap: Anchored(importance_cap=cap),
    lambda cap: BetaOPSD(importance_cap=cap),
    lambda cap: MSD(importance_cap=cap),
    lambda cap: CorrectOnly(importance_cap=cap),
]


@pytest.mark.parametrize("make", SAMPLED, ids=["isdft", "anchored", "beta_opsd", "msd", "correct_only"])
def test_a_row_is_multiplied_by_the_cap_if_all_ratios_reach_it(make: Callable[[float], Recipe]) -> None:
    step = make_step([5], div=1.0)
    student = step.student[0].log_softmax(-1)
    step.rows[0].sampled_logprobs = [student[t, i].item() - 5 for t, i in enumerate(step.rows[0].completion_ids)]
    losses = [step.loss(make(cap).objective())[0].item() for cap in (3.0, 1.5)]
    assert losses[0] == pytest.approx(2 * losses[1], rel=1e-6)
    assert abs(losses[0]) > 1e-3


@pytest.mark.parametrize("kind", [kind for kind in RECIPES.values() if "importance_cap" in kind.model_fields])
def test_a_cap_below_one_is_refused(kind: type[Recipe]) -> None:
    """It would scale down every token, corrected or not, once for each of the two ratios."""
    with pytest.raises(ValidationError, match="importance_cap"):
        kind(importance_cap=0.99)
    assert kind(importance_cap=1.0).objective().importance_cap == 1


def test_rows_that_the_student_did_not_sample_are_not_corrected() -> None:
    """These are the teacher's samples in off-policy MSD, and demonstrations."""
    off = MSD(sampled_by="teacher").objective()
    assert off.importance == "none"
    taught, drawn = (make_step([4, 3], div=1.0, sampled=sampled) for sampled in (False, True))
    assert taught.loss(off)[0].item() == taught.loss(MSD().objective())[0].item()
    assert drawn.loss(off)[0].item() != drawn.loss(MSD().objective())[0].item()
    shown, imitated = (make_step([4, 3], ce=1.0, sampled=False).loss(k().objective())[0] for k in (StableOPD, SFT))
    assert shown.item() == pytest.approx(imitated.item(), rel=1e-12)


def test_truncated_samples_are_not_corrected() -> None:
    truncated = OPSD(sampling_top_k=20, sampling_top_p=0.95)
    assert (truncated.rollouts().top_k, truncated.rollouts().top_p) == (20, 0.95)
    step = make_step([6, 3, 8], div=1.0)
    for row in step.rows:
        row.sampled_logprobs = None
    alone = step.loss(OPSD().objective())[0].item()
    drawn = make_step([6, 3, 8], div=1.0)
    assert drawn.loss(truncated.objective())[0].item() == pytest.approx(alone, rel=1e-12)
    for kind in (VOPD, StableOPD):
        with pytest.raises(ValidationError, match="estimates from sampled tokens are biased"):
            kind(sampling_top_p=0.95)
    StableOPD(sampling_top_p=0.95, beta=0.0)
    VOPD(sampling_top_p=0.95, support="full")


UNUSED: list[tuple[type[Recipe], dict[str, Any], str]] = [
    *((ATESD, {"exposure": 0.5, name: value}, f"{name} is used only if exposure is unset, but exposure is 0.5")
      for name, value in {
        "hold": 5, "discount": 0.7, "entropy_weight": 0.5, "controller_rate": 0.5, "probe_exposure": 0.5,
        "probe_prompts": 5,
    }.items()),
    (VOPD, {"support": "full", "baseline": "topk"}, "baseline is used only if support is sampled, but support is full"),
    (VOPD, {"top_k": 20},
     "top_k is used only if .* or support is sampled and baseline is topk, but support is sampled and"),
    (MSD, {"weigh_by_teacher": False, "entropy_top_k": 5},
     "entropy_top_k is used only if weigh_by_teacher is true, but weigh_by_teacher is false"),
    (MSD, {"sampled_by": "teacher", "importance_cap": 3.0},
     "importance_cap is used only if sampled_by is student, but sampled_by is teacher"),
    *((kind, {"divergence": "forward_kl", "jsd_beta": 0.3},
       "jsd_beta is used only if divergence is jsd, but divergence is forward_kl")
      for kind in (SDFT, ISDFT, Anchored, CorrectOnly, OPSD, BetaOPSD, ATESD, StableOPD, SDPO, SCSDPO)),
    *((kind, {"support": "full", "top_k": 7},
       "top_k is used only if support is topk_tail or topk_renormalized, but support is full")
      for kind in (SDFT, ISDFT, Anchored, CorrectOnly, OPSD, BetaOPSD, ATESD, StableOPD, SDPO, SCSDPO)),
    *((kind, {"support": "full", "top_k_by": "teacher"}, "top_k_by is used only if support is")
      for kind in (SDFT, OPSD, VOPD, SDPO)),
    *((kind, {"clip": "none", "clip_at": 0.1}, "clip_at is used only if clip is entry or token, but clip is none")
      for kind in (OPSD, BetaOPSD, ATESD, VOPD, StableOPD)),
    (OPSD, {"sampling_top_k": 20, "importance_cap": 3.0}, "importance_cap is used only if sampling_top_k is 0"),
    (StableOPD, {"demonstration_share": 0.0, "demonstration_weight": 0.5},
     "demonstration_weight is used only if demonstration_share is above 0, but demonstration_share is 0.0; leave "
     "demonstration_weight out"),
    *((SDZero, {"phase": 1, name: value}, f"{name} is used only if .*phase is unset or 2") for name, value in {
        "sync_every": 5, "divergence": "forward_kl", "jsd_beta": 0.3, "forward_share": 0.3, "support": "full",
        "top_k": 7, "top_k_by": "student",
    }.items()),
    (SDZero, {"phase": 2, "srt_part": 1}, "srt_part is used only if phase is unset or 1, but phase is 2"),
    (SDZero, {"phase": 2, "revise_right_answers": True}, "revise_right_answers is used only if phase is unset or 1"),
    (SDZero, {"srt_part": 1, "trajectory_share": 0.5}, "trajectory_share is used only if phase .* and srt_part is uns"),
    (RLSD, {"teacher_kind": "live", "sync_every": 5}, "sync_every is used only if teacher_kind is periodic"),
    (GRPO, {"surrogate": "cispo", "epsilon_high": 5.0, "dual_clip": 3.0}, "dual_clip is used only if surrogate is cl"),
    (SDFT, {"forward_share": 0.3}, "forward_share is used only if divergence is mixed_kl"),
    (SDZero, {"phase": 1, "srt_steps": 5}, "srt_steps is used only if phase is unset, but phase is 1"),
    (SDZero, {"phase": 2, "srt_steps": 5}, "srt_steps is used only if phase is unset, but phase is 2"),
    (GRPO, {"buffer_size": 3}, "buffer_size is used only if replay_ratio is above 0, but replay_ratio is 0"),
    (Anchored, {"replay_ratio": 0.0, "buffer_size": 3}, "buffer_size is used only if replay_ratio is above 0"),
    (RAD, {"prompts": "p.jsonl", "buffer_size": 3}, "buffer_size is used only if prompts is unset"),
    (Replay, {"replay_source": "base", "prompts": "p.jsonl", "buffer_size": 3},
     "buffer_size is used only if prompts is unset"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "settings", "message"), UNUSED, ids=str)
def test_an_unused_setting_is_refused(kind: type[Recipe], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kind(**settings)


def test_defaults_may_be_written_out() -> None:
    """A run's config.yaml has all of them."""
    for kind in (ATESD, VOPD, MSD, SDZero, Replay, Anchored, SDPO, OPSD):
        assert kind(**{name: getattr(kind(), name) for name in kind.model_fields}) == kind()
    assert ATESD(exposure=0.5, hold=10) == ATESD(exposure=0.5)
    assert SDZero(phase=1, srt_steps=20) == SDZero(phase=1)


def test_used_settings_have_an_effect() -> None:
    assert VOPD(baseline="topk", top_k=20).objective().top_k == 20
    assert VOPD(support="topk_renormalized", top_k=20).objective().top_k == 20
    assert SDZero(divergence="jsd", jsd_beta=0.3, top_k=7, sync_every=5).objective().jsd_beta == 0.3
    assert RLSD(variant="cispo").objective().policy_gradient.dual_clip is None  # type: ignore[union-attr]
    assert StableOPD(demonstration_share=0.01, demonstration_weight=0.5).demonstration_weight == 0.5
    assert Replay(replay_source="base", buffer_size=3).rollout_spec().replay_buffer_size == 3


def taught(recipe: Recipe) -> Sequence[float]:
    step = make_step([2, 3], completion="c")
    recipe.annotate([Group(row.example, [row]) for row in step.rows])
    return [row.div for row in step.rows]


def test_the_phase_of_revisions_has_no_teacher() -> None:
    assert SDZero(phase=1).teacher() is None
    assert not SDZero(phase=1).uses_base()
    assert taught(SDZero(phase=1)) == [0.0, 0.0]
    assert taught(SDZero(phase=2)) == [1.0, 1.0]


def test_stable_opd_needs_demonstrations_only_if_it_imitates_some() -> None:
    assert StableOPD().required() == {"privileged_context", "demonstration"}
    assert StableOPD(demonstration_share=0.0).required() == {"privileged_context"}
    assert StableOPD(demonstration_share=0.0, teacher_kind="gated").required() == {"privileged_context", "reward"}


def test_sft_weights_tokens_or_rows_equally() -> None:
    step = make_step([6, 2], sampled=False, ce=1.0)
    rows = [
        -log_softmax(logits.numpy())[np.arange(len(logits)), row.completion_ids]
        for row, logits in zip(step.rows, step.student)
    ]
    loss = step.loss(SFT().objective())[0].item()
    assert loss == pytest.approx(np.concatenate(rows).mean(), rel=1e-6)
    by_row = step.loss(SFT(aggregation="sequence_mean").objective())[0].item()
    assert by_row == pytest.approx(np.mean([row.mean() for row in rows]), rel=1e-6)
