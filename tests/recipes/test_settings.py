"""`holdfast.recipes`: each setting changes what its description says, in the parts or in the annotations of rows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from holdfast.advise.cost import cost_of
from holdfast.config.settings import ModelSettings
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.rows import Group, Row
from holdfast.model.base import Base
from holdfast.model.load import load_policy
from holdfast.recipes import (
    ATESD,
    DFT,
    EWC,
    GRPO,
    ISDFT,
    KLSFT,
    MSD,
    NPO,
    OPSD,
    RFT,
    RLSD,
    SCSDPO,
    SDPG,
    SORT,
    VOPD,
    ActGuide,
    Anchored,
    AutoNPO,
    BetaOPSD,
    CorrectOnly,
    OLoRA,
    Replay,
    SDZero,
    SFTThenGRPO,
    StableOPD,
)
from holdfast.recipes.base.recipe import Recipe
from holdfast.stream.controls import Controls
from holdfast.train.teacher import Teacher

EXAMPLE = Example(
    "e",
    (Message(role="user", content="Q"),),
    demonstration="D",
    plan="P",
    translation=(Message(role="user", content="T"),),
)


def rows_of(recipe: Recipe, rewards: Sequence[float] = (1.0, 0.6, 0.0, 1.0)) -> list[Row]:
    rows = [Row(EXAMPLE, [1], [2, 3], completion="c", verdict=Verdict(r, feedback="no")) for r in rewards]
    recipe.annotate([Group(EXAMPLE, rows)])
    return rows


def each(field: str) -> Callable[[Recipe], list[Any]]:
    return lambda recipe: [getattr(row, field) for row in rows_of(recipe)]


def teacher_prompt(recipe: Recipe) -> str:
    messages = rows_of(recipe)[0].teacher_messages
    assert messages is not None
    return messages[-1]["content"]


def exposed(recipe: Recipe, exposure: float | None) -> str:
    """The teacher's prompt at an exposure, in a template without words."""
    example = Example("e", (Message(role="user", content="Q"),), solution=("S1", "S2", "S3"))
    row = Row(example, [1], [2])
    changes: dict[str, Any] = {"template": "{prompt}{demonstration}"} | (
        {} if exposure is None else {"exposure": exposure}
    )
    recipe.model_copy(update=changes).annotate([Group(example, [row])])
    assert row.teacher_messages is not None
    return row.teacher_messages[-1]["content"]


def gradient(field: str, step: int = 0) -> Callable[[Recipe], Any]:
    def read(recipe: Recipe) -> Any:
        controls = Controls(recipe, 100, 0)
        return getattr(controls.recipe(controls.settings(step)).objective().policy_gradient, field)

    return read


def fraction(step: int) -> Callable[[Recipe], Any]:
    def read(recipe: Recipe) -> Any:
        controls = Controls(recipe, 200, 0)
        return controls.recipe(controls.settings(step)).objective().target_fraction

    return read


def weight(field: str) -> Callable[[Recipe], Any]:
    return lambda recipe: getattr(recipe.objective().token_weight, field)


def safety(field: str) -> Callable[[Recipe], Any]:
    return lambda recipe: getattr(recipe.objective().divergence_weight, field)


def reference(recipe: Recipe, rewards: Sequence[float]) -> Row:
    """The annotated reference of a prompt whose samples have these rewards."""
    rows = [Row(EXAMPLE, [1], [2], sampled_logprobs=[-1.0], verdict=Verdict(r)) for r in rewards]
    rows.append(Row(EXAMPLE, [1], [2, 3]))
    recipe.annotate([Group(EXAMPLE, rows)])
    return rows[-1]


def is_shown_its_plan(recipe: Recipe) -> bool:
    messages = reference(recipe, (0.0,)).teacher_messages
    assert messages is not None
    return messages[-1]["content"] == "Q=P"


def replayed(recipe: Recipe) -> Row:
    row = Row(EXAMPLE, [1], [2], replayed=True)
    recipe.annotate([Group(EXAMPLE, [row])])
    return row


def guided(recipe: Recipe) -> list[bool]:
    """Whether prompts whose four samples have these rewards get a near-future answer."""
    found = []
    for rewards in ((0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 0.6, 0.0), (1.0, 1.0, 1.0, 0.0)):
        rows = [Row(EXAMPLE, [1], [2], sampled_logprobs=[-1.0], verdict=Verdict(r)) for r in rewards]
        rows.append(Row(EXAMPLE, [1], [2], source_logprobs=[-1.0], verdict=Verdict(1.0)))
        recipe.annotate([Group(EXAMPLE, rows)])
        found.append(not rows[-1].excluded)
    return found


def phases(recipe: Recipe) -> list[float]:
    """The weight of a demonstration at steps 0, 5 and 20 of a stage; if it is 0, samples count."""
    found = []
    for step in (0, 5, 20):
        controls = Controls(recipe, 100, 0)
        rows = [Row(EXAMPLE, [1], [2], sampled_logprobs=[-1.0], verdict=Verdict(r)) for r in (1.0, 0.0)]
        rows.append(Row(EXAMPLE, [1], [2]))
        controls.recipe(controls.settings(step)).annotate([Group(EXAMPLE, rows)])
        assert [row.excluded for row in rows] == ([True, True, False] if rows[-1].ce else [False, False, True])
        found.append(rows[-1].ce)
    return found


def revision_parts(recipe: Recipe) -> list[int]:
    """The part of phase 1 at some of its steps, in a stage of 100; the same if phase 1 is the whole stage."""
    found = []
    for changed, steps in (
        (recipe, (0, 12, 16, 17, 19)),
        (recipe.model_copy(update={"phase": 1}), (0, 60, 83, 84, 99)),
    ):
        controls = Controls(changed, 100, 0)
        each = [controls.recipe(controls.settings(step)) for step in steps]
        assert all(r.rollouts().revision.with_trajectories == (r.srt_part != 2) for r in each)
        found.append([r.srt_part for r in each])
    assert found[0] == found[1]
    return found[0]


def helped(field: str) -> Callable[[Recipe], Any]:
    return lambda recipe: getattr(recipe.hints(), field)


def guide(field: str) -> Callable[[Recipe], Any]:
    return lambda recipe: getattr(recipe.near_future(), field)


SETTINGS: list[tuple[type[Recipe], str, Any, Callable[[Recipe], Any], Any, Any]] = [
    (DFT, "aggregation", "sequence_mean", lambda r: r.objective().aggregation, "token_mean", "sequence_mean"),
    (KLSFT, "beta", 0.5, lambda r: r.objective().reference_kl, 0.1, 0.5),
    (KLSFT, "distillation_temperature", 2.0, lambda r: r.objective().reference_temperature, 1.0, 2.0),
    (KLSFT, "old_model", "stage_start", lambda r: r.objective().reference, "base", "teacher"),
    (KLSFT, "old_model", "stage_start", lambda r: (r.teacher() is not None, r.uses_base()), (0, 1), (1, 0)),
    (RFT, "num_generations", 2, lambda r: r.rollouts().num_generations, 4, 2),
    (RFT, "num_iterations", 3, lambda r: r.rollouts().num_iterations, 1, 3),
    (RFT, "success_threshold", 0.5, each("ce"), [1, 0, 0, 1], [1, 1, 0, 1]),
    (RFT, "most_per_prompt", 1, each("ce"), [1, 0, 0, 1], [1, 0, 0, 0]),
    (RFT, "temperature", 0.7, lambda r: (r.rollouts().temperature, r.objective().temperature), (1, 1), (0.7, 0.7)),
    (RFT, "importance_cap", 3.0, lambda r: r.objective().importance_cap, 2.0, 3.0),
    (SCSDPO, "weight_exponent", 1.0, each("div"), [3**0.5 / 4] * 4, [3 / 16] * 4),
    (SCSDPO, "success_threshold", 1.0, each("div"), [3**0.5 / 4] * 4, [0.5] * 4),
    (CorrectOnly, "num_generations", 2, lambda r: cost_of(r).step.completions, 4, 2),
    (CorrectOnly, "distill", "wrong", each("div"), [1, 0, 0, 1], [0, 1, 1, 0]),
    (CorrectOnly, "distill", "all", each("div"), [1, 0, 0, 1], [1, 1, 1, 1]),
    (CorrectOnly, "success_threshold", 0.5, each("div"), [1, 0, 0, 1], [1, 1, 0, 1]),
    (RLSD, "modulation", 0.2, gradient("modulation", 30), 0.25, 0.1),
    (RLSD, "modulation_steps", 0, gradient("modulation", 60), 0.0, 0.5),
    (RLSD, "modulation_clip", 0.1, gradient("modulation_clip"), 0.2, 0.1),
    (RLSD, "teacher_kind", "live", lambda r: r.teacher().kind, "periodic", "live"),
    (RLSD, "sync_every", 5, lambda r: (r.teacher().every, r.teacher().share, r.uses_base()), (20, 1, 0), (5, 1, 0)),
    (RLSD, "epsilon_high", 0.4, gradient("epsilon_high"), 0.28, 0.4),
    (RLSD, "dual_clip", None, gradient("dual_clip"), 3.0, None),
    (RLSD, "aggregation", "constant", lambda r: r.objective().aggregation, "token_mean", "constant"),
    (GRPO, "dual_clip", 4.0, gradient("dual_clip"), None, 4.0),
    (RLSD, "template", "{prompt}={demonstration}", lambda r: teacher_prompt(r) == "Q=D", False, True),
    (SORT, "plan_share", 0.2, weight("teacher_share"), 0.5, 0.2),
    (SORT, "rising_only", True, weight("rising_only"), False, True),
    (SORT, "normalize_weights", True, weight("normalized"), False, True),
    (SORT, "reference_weight", 0.5, lambda r: reference(r, (0.0, 0.5)).ce, 1.0, 0.5),
    (SORT, "success_threshold", 0.5, lambda r: reference(r, (0.0, 0.5)).ce, 1.0, 0.0),
    (
        SORT,
        "template",
        "{prompt}={plan}",
        is_shown_its_plan,
        False,
        True,
    ),
    (NPO, "scout_steps", 5, guide("steps"), 20, 5),
    (NPO, "guide_samples", 1, guide("samples"), 4, 1),
    (NPO, "success_threshold", 0.5, guide("success_threshold"), 1.0, 0.5),
    (NPO, "success_threshold", 0.5, guided, [True, True, False], [True, False, False]),
    (NPO, "max_success_fraction", 0.4, guided, [True, True, False], [True, False, False]),
    (AutoNPO, "every", 2, guide("every"), 5, 2),
    (AutoNPO, "candidates", 2, guide("candidates"), 4, 2),
    (AutoNPO, "fast_rate", 1.0, guide("fast_rate"), 0.5, 1.0),
    (AutoNPO, "slow_rate", 0.5, guide("slow_rate"), 0.2, 0.5),
    (AutoNPO, "least_gain", 0.1, guide("least_gain"), 0.01, 0.1),
    (AutoNPO, "patience", 2, guide("patience"), 4, 2),
    (AutoNPO, "entropy_share", 0.5, guide("entropy_share"), 0.8, 0.5),
    (AutoNPO, "entropy_share", None, guide("entropy_share"), 0.8, None),
    (AutoNPO, "failures", 4, guide("failures"), 32, 4),
    (AutoNPO, "rounds", 2, guide("rounds"), 1, 2),
    (AutoNPO, "guide_samples", 1, guide("samples"), 4, 1),
    (ActGuide, "hard_threshold", 0.5, helped("hard_threshold"), 0.0, 0.5),
    (ActGuide, "probes", 1, helped("probes"), 2, 1),
    (ActGuide, "most_probe_steps", 3, helped("most_probe_steps"), 5, 3),
    (ActGuide, "template", "{actions}{prompt}", lambda r: r.hints().template[:9] == "{actions}", False, True),
    (ActGuide, "luffy_gamma", 0.1, gradient("off_policy"), "ratio", "shaped"),
    (ActGuide, "luffy_gamma", 0.3, gradient("off_policy_gamma"), 0.1, 0.3),
    (ActGuide, "dual_clip", None, gradient("dual_clip"), 3.0, None),
    (ActGuide, "beta", 0.0, each("base_kl"), [1.0] * 4, [0.0] * 4),
    (ActGuide, "aggregation", "constant", lambda r: r.objective().aggregation, "token_mean", "constant"),
    (SFTThenGRPO, "sft_steps", 3, phases, [1, 1, 0], [1, 0, 0]),
    (SFTThenGRPO, "imitation", 0.5, phases, [1, 1, 0], [0.5, 0.5, 0]),
    (StableOPD, "beta", 0.2, lambda r: r.objective().reference_kl, 0.05, 0.2),
    (StableOPD, "demonstration_share", 0.5, lambda r: r.rollouts().demonstration_share, 0.25, 0.5),
    (StableOPD, "demonstration_share", 0.0, lambda r: r.rollouts().with_demonstration, True, False),
    (StableOPD, "demonstration_weight", 0.5, lambda r: reference(r, (1.0,)).ce, 1.0, 0.5),
    (Replay, "replay_ratio", 0.5, lambda r: r.rollout_spec().replay_ratio, 0.1, 0.5),
    (Replay, "replay_weight", 0.5, lambda r: replayed(r).ce, 1.0, 0.5),
    (
        Replay,
        "replay_source",
        "base",
        lambda r: (r.rollout_spec().replay_source, r.uses_base()),
        ("own", 0),
        ("base", 1),
    ),
    (SDZero, "phase", 1, lambda r: (r.rollouts().revision is None, r.teacher() is None), (1, 0), (0, 1)),
    (SDZero, "phase", 2, lambda r: (r.rollouts().revision is None, r.teacher().kind), (1, "periodic"), (1, "frozen")),
    (SDZero, "srt_steps", 5, lambda r: r.teacher().first, 20, 5),
    (SDZero, "sync_every", 5, lambda r: r.teacher().every, 0, 5),
    (SDZero, "num_generations", 4, lambda r: r.rollouts().num_generations, 1, 4),
    (SDZero, "cue_if_right", "Y", lambda r: rows_of(r)[0].teacher_prefix[-3:-2], ".", "Y"),
    (SDZero, "cue_if_wrong", "N", lambda r: rows_of(r)[2].teacher_prefix[-3:-2], ".", "N"),
    (SDZero, "success_threshold", 0.5, lambda r: "wrong" in rows_of(r)[1].teacher_prefix, True, False),
    (SDZero, "divergence", "reverse_kl", lambda r: r.objective().divergence, "mixed_kl", "reverse_kl"),
    (SDZero, "forward_share", 0.25, lambda r: r.objective().forward_share, 0.5, 0.25),
    (SDZero, "support", "topk_tail", lambda r: r.objective().support, "topk_renormalized", "topk_tail"),
    (SDZero, "top_k_by", "student", lambda r: r.objective().top_k_by, "teacher", "student"),
    (SDZero, "revise_right_answers", True, lambda r: r.revision().of_right_answers, False, True),
    (SDZero, "trajectory_share", 0.5, revision_parts, [1, 1, 1, 2, 2], [1, 2, 2, 2, 2]),
    (SDZero, "srt_part", 2, revision_parts, [1, 1, 1, 2, 2], [2, 2, 2, 2, 2]),
    (SDZero, "srt_part", 1, revision_parts, [1, 1, 1, 2, 2], [1, 1, 1, 1, 1]),
    (SDZero, "top_k", 5, lambda r: r.objective().top_k, 64, 5),
    (SDZero, "temperature", 0.7, lambda r: (r.rollouts().temperature, r.objective().temperature), (1, 1), (0.7, 0.7)),
    (OLoRA, "orthogonality", 3.0, lambda r: r.penalty().strength, 0.5, 3.0),
    (OLoRA, "norm", 0.1, lambda r: r.penalty().norm, 0.0, 0.1),
    (EWC, "strength", 3.0, lambda r: r.penalty().strength, 100.0, 3.0),
    (EWC, "decay", 0.5, lambda r: r.penalty().decay, 1.0, 0.5),
    (EWC, "sequences", "demonstrations", lambda r: r.penalty().sequences, "samples", "demonstrations"),
    (EWC, "num_sequences", 7, lambda r: r.penalty().count, 200, 7),
    (EWC, "prompts", "p.jsonl", lambda r: r.penalty().prompts, None, "p.jsonl"),
    (Replay, "buffer_size", 3, lambda r: r.rollout_spec().replay_buffer_size, None, 3),
    (ISDFT, "target_fraction_start", 0.5, fraction(0), 0.25, 0.5),
    (ISDFT, "target_fraction", 0.5, fraction(75), 0.625, 0.375),
    (ISDFT, "ramp_steps", 75, fraction(75), 0.625, 1.0),
    (ISDFT, "mu", 0.0, each("base_kl"), [1.0] * 4, [0.0] * 4),
    (ISDFT, "ramp_steps", 1, fraction(100), 0.75, 0.625),
    (ISDFT, "ramp_steps", 1.0, fraction(200), 1.0, 1.0),
    (ISDFT, "ramp_steps", 2, fraction(2), 0.26, 1.0),
    (ISDFT, "mu", 0.1, lambda r: r.objective().reference_kl, 2e-3, 0.1),
    (Anchored, "replay_ratio", 0.25, lambda r: r.rollout_spec().replay_ratio, 0.5, 0.25),
    (Anchored, "buffer_size", 3, lambda r: r.rollout_spec().replay_buffer_size, None, 3),
    (Anchored, "num_generations", 3, lambda r: r.rollouts().num_generations, 1, 3),
    (Anchored, "teacher_kind", "ema", lambda r: r.teacher() and r.teacher().kind, "frozen", "ema"),
    (Anchored, "mu", 0.0, each("base_kl"), [1.0] * 4, [0.0] * 4),
    (Anchored, "mu", 0.1, lambda r: r.objective().reference_kl, 0.05, 0.1),
    (Anchored, "divergence", "jsd", lambda r: r.objective().divergence, "reverse_kl", "jsd"),
    (Anchored, "beta", 4.0, lambda r: r.objective().target_weight, 0.5, 0.25),
    (Anchored, "temperature", 1.0, lambda r: (r.rollouts().temperature, r.objective().temperature), (1.1, 1.1), (1, 1)),
    (Anchored, "template", "{prompt}={demonstration}", lambda r: teacher_prompt(r) == "Q=D", False, True),
    (OPSD, "clip", "token", lambda r: r.objective().clip, "entry", "token"),
    (OPSD, "clip_at", 0.06, lambda r: r.objective().clip_at, 0.05, 0.06),
    (OPSD, "temperature", 0.9, lambda r: (r.rollouts().temperature, r.objective().temperature), (1.1, 1.1), (0.9, 0.9)),
    (OPSD, "teacher_kind", "live", lambda r: r.teacher() and r.teacher().kind, "frozen", "live"),
    (OPSD, "stage_start", "student", lambda r: r.teacher() and r.teacher().stage_start, "base", "student"),
    (OPSD, "template", "{prompt}={demonstration}", lambda r: teacher_prompt(r) == "Q=D", False, True),
    (OPSD, "divergence", "jsd", lambda r: r.objective().divergence, "forward_kl", "jsd"),
    (OPSD, "aggregation", "constant", lambda r: r.objective().aggregation, "token_mean", "constant"),
    (OPSD, "num_generations", 4, lambda r: r.rollouts().num_generations, 1, 4),
    (ATESD, "exposure", 0.5, lambda r: (len(r.controllers()), r.probe() is not None), (1, 1), (0, 0)),
    (ATESD, "keep_answer", False, lambda r: exposed(r, 0.2), "QS1\nS3", "QS1"),
    (ATESD, "exposure", 0.2, lambda r: exposed(r, None), "QS1\nS2\nS3", "QS1\nS3"),
    (ATESD, "hold", 5, lambda r: (r.probe().every, r.controllers()["exposure"].hold), (10, 10), (5, 5)),
    (ATESD, "discount", 0.7, lambda r: r.controllers()["exposure"].discount, 0.5, 0.7),
    (ATESD, "entropy_weight", 0.5, lambda r: r.controllers()["exposure"].entropy_weight, 1e-2, 0.5),
    (ATESD, "controller_rate", 0.5, lambda r: r.controllers()["exposure"].rate, 0.1, 0.5),
    (ATESD, "probe_exposure", 0.5, lambda r: r.probe().settings["exposure"], 1.0, 0.5),
    (ATESD, "probe_prompts", 5, lambda r: r.probe().prompts, 16, 5),
    (MSD, "weigh_by_teacher", False, safety("by_teacher"), True, False),
    (MSD, "weigh_by_student", False, safety("by_student"), True, False),
    (MSD, "entropy_top_k", 5, safety("top_k"), 20, 5),
    (
        MSD,
        "sampled_by",
        "teacher",
        lambda r: (r.rollouts().source, r.rollouts().prompt),
        ("student", "own"),
        ("base", "teacher"),
    ),
    (MSD, "num_generations", 4, lambda r: r.rollouts().num_generations, 1, 4),
    (MSD, "teacher_kind", "live", lambda r: r.teacher() and r.teacher().kind, "frozen", "live"),
    (MSD, "stage_start", "student", lambda r: r.teacher() and r.teacher().stage_start, "base", "student"),
    (MSD, "temperature", 0.7, lambda r: (r.rollouts().temperature, r.objective().temperature), (1, 1), (0.7, 0.7)),
    (MSD, "aggregation", "sequence_mean", lambda r: r.objective().aggregation, "token_mean", "sequence_mean"),
    (MSD, "template", "{prompt}!", lambda r: teacher_prompt(r) == "T!", False, True),
    (BetaOPSD, "beta", 4.0, lambda r: r.objective().target_weight, 0.5, 0.25),
    (VOPD, "baseline", "topk", lambda r: r.objective().sampled_baseline, "kl", "topk_kl"),
    (VOPD, "baseline", "none", lambda r: r.objective().sampled_baseline, "kl", "none"),
    (
        VOPD,
        "support",
        "full",
        lambda r: (r.objective().support, r.objective().sampled_baseline),
        ("sampled", "kl"),
        ("full", "none"),
    ),
    (SDPG, "template", "{prompt}={demonstration}", lambda r: teacher_prompt(r) == "Q=D", False, True),
    (SDPG, "epsilon_high", 0.4, gradient("epsilon_high"), 0.28, 0.4),
    (SDPG, "dual_clip", None, gradient("dual_clip"), 10.0, None),
    (SDPG, "drop_equal_groups", True, lambda r: [x.excluded for x in rows_of(r, (0.0,) * 4)], [0] * 4, [1] * 4),
    (SDPG, "aggregation", "constant", lambda r: r.objective().aggregation, "token_mean", "constant"),
    (SDPG, "distillation", 0.5, each("div"), [1e-3] * 4, [0.5] * 4),
    (SDPG, "beta", 0.0, each("base_kl"), [1.0] * 4, [0.0] * 4),
    (SDPG, "divergence", "forward_kl", lambda r: r.objective().divergence, "reverse_kl", "forward_kl"),
    (SDPG, "positive_advantages_only", True, each("div"), [1e-3] * 4, [1e-3, 0, 0, 1e-3]),
]


@pytest.mark.parametrize(("kind", "setting", "value", "read", "default", "changed"), SETTINGS)
def test_a_setting_changes_what_it_describes(
    kind: type[Recipe], setting: str, value: Any, read: Callable[[Recipe], Any], default: Any, changed: Any
) -> None:
    assert read(kind()) == pytest.approx(default)
    assert read(kind(**{setting: value})) == pytest.approx(changed)


def test_sc_sdpo_gives_no_weight_to_prompts_that_are_always_or_never_solved() -> None:
    for rewards in ([1.0] * 4, [0.0] * 4):
        assert [row.div for row in rows_of(SCSDPO(), rewards)] == [0.0] * 4


def test_a_teacher_with_moving_weights_is_not_sampled() -> None:
    assert MSD(sampled_by="teacher", teacher_kind="live").rollouts().source == "student"
    for settings in ({"stage_start": "student"}, {"teacher_kind": "ema"}):
        with pytest.raises(ValueError, match="sampled_by: teacher is for"):
            MSD(sampled_by="teacher", **settings)


def test_msd_without_both_weights_weights_all_tokens_equally() -> None:
    assert MSD(weigh_by_teacher=False, weigh_by_student=False).objective().divergence_weight is None


@pytest.mark.parametrize(("rate", "where"), [(0.001, 0.999), (0.25, 0.75)])
def test_opsds_ema_teacher_moves_by_its_rate_at_every_step(tiny_model: Path, rate: float, where: float) -> None:
    """After one step the teacher is `ema_rate` of the way from the base to the student."""
    policy = load_policy(ModelSettings(path=str(tiny_model)))
    settings = {} if rate == OPSD().ema_rate else {"ema_rate": rate}
    spec = OPSD(teacher_kind="ema", **settings).teacher()
    assert spec is not None
    teacher = Teacher(spec, policy, Base(policy))
    start = {name: p.detach().clone() for name, p in policy.named_trainable().items()}
    with torch.no_grad():
        for parameter in policy.named_trainable().values():
            parameter += 1.0
    teacher.after_optimizer_step()
    with teacher.scoring() as model:
        found = {name: p.detach().clone() for name, p in model.model.named_parameters()}
    for name, value in start.items():
        torch.testing.assert_close(found[name], value + 1 - where, rtol=1e-5, atol=1e-5)


def test_modulated_advantages_are_unchanged_on_rows() -> None:
    modulated, plain = rows_of(RLSD()), rows_of(RLSD(modulation=0.0))
    assert [row.advantage for row in modulated] == [row.advantage for row in plain]
