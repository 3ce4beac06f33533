"""Teachers: what moves, how far, and from where a stage starts; full fine-tuning and LoRA, float32 and bfloat16."""

from pathlib import Path
from typing import Literal

import pytest
import torch

from holdfast.config import LoraSettings, ModelSettings
from holdfast.objective.spec import TeacherSpec
from holdfast.teachers import Base, Teacher
from holdfast.train.model import Policy, load_policy

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
    """The weights of the student, or of its teacher; under LoRA the products that they add."""
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
    teacher.after_rollout_batch()
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
