"""`holdfast.train.teacher`: when weights change, by how much, and where a stage starts; with and without LoRA."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from holdfast.config.settings import LoraSettings, ModelSettings, TrainSettings
from holdfast.data.example import Example
from holdfast.data.rows import Row
from holdfast.errors import ModelError
from holdfast.model.base import Base
from holdfast.model.load import Policy, load_policy
from holdfast.objective.head import TensorHead
from holdfast.objective.signals import HiddenSignal, mixed
from holdfast.recipes import SDFT
from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.parts.teacher import TeacherSpec
from holdfast.train.step import StageTrainer
from holdfast.train.teacher import Teacher
from holdfast.train.teacher_refresh import RefreshCheck

Dtype = Literal["float32", "bfloat16"]


def _policy(folder: Path, *, lora: bool = False, dtype: Dtype = "float32") -> Policy:
    settings = LoraSettings(r=4, lora_alpha=8) if lora else None
    return load_policy(ModelSettings(path=str(folder), dtype=dtype, lora=settings))


@torch.no_grad()
def _shift(policy: Policy, amount: float) -> None:
    for parameter in policy.named_trainable().values():
        parameter.add_(amount)


def _logits(policy: Policy) -> torch.Tensor:
    return policy.logits(policy.hidden_states(torch.tensor([[5, 6, 7]])))[0, -1].float()


@torch.no_grad()
def _teacher_logits(teacher: Teacher) -> torch.Tensor:
    with teacher.scoring() as scoring:
        return _logits(scoring)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.3, 1.0])
def test_ema_moves_the_declared_share_of_the_way(tiny_model: Path, lora: bool, dtype: Dtype, rate: float) -> None:
    policy = _policy(tiny_model, lora=lora, dtype=dtype)
    teacher = Teacher(TeacherSpec(kind="ema", rate=rate), policy, None)
    before = {name: value.clone() for name, value in _added(policy, teacher).items()}
    _shift(policy, 0.5)
    for _ in range(100):
        teacher.after_optimizer_step()
    expected = 1 - (1 - rate) ** 100
    after = _added(policy, teacher)
    for name, student in _added(policy, None).items():
        torch.testing.assert_close(
            after[name] - before[name], expected * (student - before[name]), atol=1e-4, rtol=1e-3
        )


def _added(policy: Policy, teacher: Teacher | None) -> dict[str, torch.Tensor]:
    """The weights of student or teacher; under LoRA, the products of their adapters."""
    if teacher is None:
        own = {name: p.detach().float() for name, p in policy.named_trainable().items()}
    else:
        own = teacher.state()
    if not policy.is_lora:
        return own
    return {name: own[name.replace("_A.", "_B.")] @ own[name] for name in own if ".lora_A." in name}


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_the_average_of_an_adapter_is_that_of_its_product_to_the_stated_bound(tiny_model: Path, rate: float) -> None:
    policy = _policy(tiny_model, lora=True)
    teacher = Teacher(TeacherSpec(kind="ema", rate=rate), policy, None)
    exact = {name: value.double() for name, value in _added(policy, None).items()}
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        with torch.no_grad():
            for parameter in policy.named_trainable().values():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
        teacher.after_optimizer_step()
        exact = {n: (1 - rate) * exact[n] + rate * v.double() for n, v in _added(policy, None).items()}
    assert teacher.average is not None
    bound = teacher.average.error_bound()
    kept = _added(policy, teacher)
    for name, value in exact.items():
        error = (kept[name].double() - value).norm() / kept[name].norm()
        assert error <= bound + 1e-5
    assert 0 < bound < 0.5


@pytest.mark.parametrize("lora", [False, True])
def test_cadence_says_when_the_teacher_moves(tiny_model: Path, lora: bool) -> None:
    policy = _policy(tiny_model, lora=lora)
    teacher = Teacher(TeacherSpec(kind="ema", rate=1.0, cadence="rollout_batch"), policy, None)
    start = _teacher_logits(teacher)
    _shift(policy, 0.05)
    teacher.after_optimizer_step()
    torch.testing.assert_close(_teacher_logits(teacher), start)
    teacher.after_rollout_batch({})
    with torch.no_grad():
        torch.testing.assert_close(_teacher_logits(teacher), _logits(policy))


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("kind", ["frozen", "ema"])
@pytest.mark.parametrize("stage_start", ["student", "keep", "base"])
def test_stage_start_says_what_the_teacher_becomes(
    tiny_model: Path, lora: bool, kind: Literal["frozen", "ema"], stage_start: Literal["student", "keep", "base"]
) -> None:
    policy = _policy(tiny_model, lora=lora)
    base = Base(policy)
    teacher = Teacher(TeacherSpec(kind=kind, rate=0.5, stage_start=stage_start), policy, base)
    with torch.no_grad():
        at_base = _logits(policy).clone()
    _shift(policy, 0.05)
    teacher.after_optimizer_step()
    kept = _teacher_logits(teacher).clone()
    teacher.start_stage()
    with torch.no_grad():
        expected = {"student": _logits(policy), "keep": kept, "base": at_base}[stage_start]
        with base.scoring() as scoring:
            torch.testing.assert_close(_logits(scoring), at_base)
    torch.testing.assert_close(_teacher_logits(teacher), expected)
    assert not torch.allclose(at_base, _logits(policy))


def test_the_teacher_of_a_later_stage_is_the_student_in_memory_not_the_folder(tiny_model: Path) -> None:
    policy = _policy(tiny_model)
    teacher = Teacher(TeacherSpec(kind="frozen", stage_start="student"), policy, None)
    _shift(policy, 0.05)
    teacher.start_stage()
    with torch.no_grad():
        torch.testing.assert_close(_teacher_logits(teacher), _logits(policy))
        assert not torch.allclose(_teacher_logits(teacher), _logits(_policy(tiny_model)))


@pytest.mark.parametrize("lora", [False, True])
def test_a_live_teacher_is_the_student_and_gets_no_gradient(tiny_model: Path, lora: bool) -> None:
    policy = _policy(tiny_model, lora=lora)
    teacher = Teacher(TeacherSpec(kind="live"), policy, None)
    _shift(policy, 0.05)
    with teacher.scoring() as scoring:
        logits = _logits(scoring)
    assert not logits.requires_grad
    torch.testing.assert_close(logits, _logits(policy).detach())


def test_under_lora_a_teacher_frozen_at_the_base_adds_no_weights(tiny_model: Path) -> None:
    policy = _policy(tiny_model, lora=True)
    weights = sum(1 for _ in policy.model.named_parameters())
    teacher = Teacher(TeacherSpec(kind="frozen", stage_start="base"), policy, None)
    assert sum(1 for _ in policy.model.named_parameters()) == weights
    with torch.no_grad():
        at_base = _logits(policy)
    _shift(policy, 0.05)
    torch.testing.assert_close(_teacher_logits(teacher), at_base)


@pytest.mark.parametrize("lora", [False, True])
def test_a_teachers_state_can_be_put_back(tiny_model: Path, lora: bool) -> None:
    policy = _policy(tiny_model, lora=lora)
    teacher = Teacher(TeacherSpec(kind="ema", rate=0.5), policy, None)
    _shift(policy, 0.05)
    teacher.after_optimizer_step()
    state = {name: value.clone() for name, value in teacher.state().items()}
    logits = _teacher_logits(teacher)
    teacher.start_stage()
    assert not torch.allclose(_teacher_logits(teacher), logits)
    teacher.load_state(state)
    assert torch.equal(_teacher_logits(teacher), logits)


# --- Refreshed teachers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_a_periodic_teacher_moves_by_the_clock_alone(tiny_model: Path, lora: bool, share: float) -> None:
    policy = _policy(tiny_model, lora=lora)
    teacher = Teacher(TeacherSpec(kind="periodic", every=3, share=share), policy, None)
    before = {name: value.clone() for name, value in _added(policy, teacher).items()}
    _shift(policy, 0.5)
    for batch in range(1, 3):
        teacher.after_optimizer_step()
        teacher.after_rollout_batch({})
        assert teacher.refreshes == 0
        assert all(torch.equal(before[n], value) for n, value in _added(policy, teacher).items()), batch
    teacher.after_rollout_batch({})
    assert teacher.refreshes == 1
    for name, student in _added(policy, None).items():
        moved = _added(policy, teacher)[name] - before[name]
        torch.testing.assert_close(moved, share * (student - before[name]), atol=1e-5, rtol=1e-5)
    teacher.start_stage()
    assert teacher.refreshes == 0


def _measured(reward: float | None, truncated: float = 0.1, length: float = 20) -> dict[str, Any]:
    return {"reward": reward, "truncated_fraction": truncated, "completion_length_p95": length}


def test_the_gate_opens_for_a_higher_reward_with_a_safe_tail() -> None:
    def gate() -> RefreshCheck:
        return RefreshCheck(every=1, rate=1.0, margin=0.05)

    opened = gate()
    assert not opened.due(_measured(0.5)), "nothing to compare with yet"
    assert not opened.due(_measured(0.5))
    assert opened.due(_measured(0.6))
    assert not opened.due(_measured(0.6)), "the reward at the last refresh is the one to beat"
    assert not opened.due(_measured(0.9, truncated=0.2)), "more answers are cut off"
    assert not opened.due(_measured(0.9, length=22)), "the longest answers grow"
    assert opened.due(_measured(0.9, truncated=0.14, length=20.9))
    assert not gate().due(_measured(None))


def test_the_gate_compares_moving_averages_and_is_asked_now_and_then() -> None:
    rewards = [0.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    average, last, expected = 0.0, 0.0, []
    for i, reward in enumerate(rewards, 1):
        average = reward if i == 1 else 0.5 * average + 0.5 * reward
        expected.append(i % 2 == 0 and average > last)
        last = average if expected[-1] else last
    gate, again = (RefreshCheck(every=2, rate=0.5, margin=0.0) for _ in range(2))
    found = [gate.due(_measured(reward)) for reward in rewards[:3]]
    again.load_state(json.loads(json.dumps(gate.state())))
    assert found + [again.due(_measured(reward)) for reward in rewards[3:]] == expected
    assert expected == [False, True, False, False, False, True]


@pytest.mark.parametrize("lora", [False, True])
def test_a_gated_teacher_copies_the_student_when_the_gate_opens(tiny_model: Path, lora: bool) -> None:
    policy = _policy(tiny_model, lora=lora)
    spec = TeacherSpec(kind="gated", every=1, average_rate=1.0)
    teacher = Teacher(spec, policy, None)
    start = _teacher_logits(teacher)
    teacher.after_rollout_batch(_measured(0.2))
    _shift(policy, 0.05)
    teacher.after_rollout_batch(_measured(0.2))
    torch.testing.assert_close(_teacher_logits(teacher), start)
    teacher.after_rollout_batch(_measured(0.3))
    with torch.no_grad():
        torch.testing.assert_close(_teacher_logits(teacher), _logits(policy))
    again = Teacher(spec, _policy(tiny_model, lora=lora), None)
    again.load_progress(json.loads(json.dumps(teacher.progress())))
    assert again.progress() == teacher.progress()
    assert again.refreshes == 1


# --- Trust region -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("stage_start", ["student", "base"])
@pytest.mark.parametrize("engine", ["fused", "readable"])
def test_a_trust_region_mixes_the_logits_of_its_frozen_part_and_the_student(
    tiny_model: Path, lora: bool, stage_start: Literal["student", "base"], engine: Literal["fused", "readable"]
) -> None:
    policy = _policy(tiny_model, lora=lora)
    base = Base(policy)
    teacher = Teacher(TeacherSpec(kind="trust_region", mix=0.3, stage_start=stage_start), policy, base)
    _shift(policy, 0.03)
    if stage_start == "student":
        teacher.start_stage()
        _shift(policy, 0.03)
    trainer = StageTrainer(policy, teacher, base, Objective(), TrainSettings(engine=engine))
    row = Row(Example("e", ()), [5, 6], [7, 8, 9], div=1.0, teacher_prompt_ids=[3, 4, 5])
    with torch.no_grad():
        signal = trainer.signals._scored("teacher", [row])
        ids = torch.tensor([[3, 4, 5, 7, 8, 9]])
        live = policy.logits(policy.hidden_states(ids))[0, 2:-1]
        with teacher.scoring() as frozen:
            held = frozen.logits(frozen.hidden_states(ids))[0, 2:-1]
    assert not torch.allclose(held, live, atol=1e-3)
    torch.testing.assert_close(signal.logits(), 0.7 * held + 0.3 * live, atol=2e-5, rtol=1e-4)


def test_a_trust_region_refuses_a_model_with_a_soft_cap() -> None:
    signal = HiddenSignal(torch.ones(1, 2), TensorHead(torch.ones(3, 2), softcap=30.0))
    with pytest.raises(ModelError, match="choose another teacher_kind"):
        mixed(signal, signal, 0.5)


@pytest.mark.parametrize(("setting", "value"), [("rate", 1.5), ("share", -0.1), ("mix", 2.0), ("every", 0)])
def test_a_teacher_that_makes_no_sense_is_refused(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=r"a teacher"):
        TeacherSpec(**{setting: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"teacher_kind": "periodic", "ema_rate": 0.3},
            "ema_rate is used only if teacher_kind is ema, but teacher_kind is periodic",
        ),
        (
            {"refresh_every": 3},
            "refresh_every is used only if teacher_kind is periodic or gated, but teacher_kind is ema",
        ),
        ({"teacher_kind": "live", "stage_start": "student"}, "but teacher_kind is live"),
    ],
)
def test_a_setting_that_the_teacher_does_not_read_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SDFT(**settings)
    gated = SDFT(teacher_kind="gated", refresh_average_rate=0.5)
    assert SDFT(**gated.model_dump()).refresh_average_rate == 0.5  # as in a run's config.yaml
