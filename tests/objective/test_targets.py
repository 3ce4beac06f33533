"""`holdfast.objective.targets`: mixes meet their definition, and the fused form finds the same partial target."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from holdfast.objective.batch import Batch
from holdfast.objective.divergence import kl
from holdfast.objective.fused.gradients import partial_target
from holdfast.objective.loss import loss_and_statistics
from holdfast.objective.targets import geometric_mix, partial_weight, target_log_probs
from holdfast.recipes.parts.objective import Objective
from objective_factory import make_step


def distributions(seed: int, count: int, tokens: int = 3, vocabulary: int = 9, spread: float = 2.0) -> list[Tensor]:
    logits = torch.randn(count, tokens, vocabulary, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return list((spread * logits).log_softmax(-1))


@given(seed=st.integers(0, 1000), inverse_beta=st.floats(0.1, 1.0))
@settings(max_examples=20)
def test_a_mix_with_the_base_is_the_optimum_of_beta_opsd(seed: int, inverse_beta: float) -> None:
    """max over π of E_π[log q − log b] − beta·KL(π‖b)."""
    teacher, base, other = distributions(seed, 3)

    def objective(policy: Tensor) -> Tensor:
        return (policy.exp() * (teacher - base)).sum(-1) - kl(policy, base) / inverse_beta

    best = geometric_mix(base, teacher, inverse_beta)
    torch.testing.assert_close(best.logsumexp(-1), torch.zeros(3, dtype=torch.float64))
    for share in (1e-3, 0.1, 1.0):
        assert (objective(torch.lerp(best.exp(), other.exp(), share).log()) <= objective(best) + 1e-12).all()


def test_weights_beyond_one_lie_beyond_the_teacher() -> None:
    teacher, base = distributions(0, 2)
    torch.testing.assert_close(geometric_mix(base, teacher, 1.0), teacher)
    torch.testing.assert_close(geometric_mix(base, teacher, 0.0), base)
    further = kl(geometric_mix(base, teacher, 1.25), base) > kl(teacher, base)
    assert further.all()


@given(
    seed=st.integers(0, 1000),
    fraction=st.floats(0.05, 1.0),
    spread=st.sampled_from([0.1, 2.0, 8.0]),
    vocabulary=st.sampled_from([2, 9, 200]),
)
@settings(max_examples=60)
def test_a_partial_target_makes_the_fraction_of_the_improvement(
    seed: int, fraction: float, spread: float, vocabulary: int
) -> None:
    student, teacher = distributions(seed, 2, vocabulary=vocabulary, spread=spread)
    weight = partial_weight(student, teacher, fraction)
    assert ((weight > 0) & (weight <= 1)).all()
    target = geometric_mix(student, teacher, weight.unsqueeze(-1))
    made, whole = ((p.exp() * (teacher - student)).sum(-1) for p in (target, teacher))
    torch.testing.assert_close(made, fraction * whole, rtol=1e-6, atol=1e-9)

    logs = torch.stack((student, teacher, torch.zeros_like(student)), dim=1)
    partial_target(logs, torch.empty_like(logs), 1, 2, fraction)
    torch.testing.assert_close(logs[:, 2].exp(), target.exp(), rtol=1e-4, atol=1e-6)
    found = (logs[:, 2].exp() * (teacher - student)).sum(-1)
    torch.testing.assert_close(found, fraction * whole, rtol=1e-6, atol=1e-9)
    assert torch.equal(logs[:, 0], student)
    assert torch.equal(logs[:, 1], teacher)


def test_a_partial_target_is_the_nearest_that_improves_as_much() -> None:
    student, teacher, other = distributions(5, 3)
    target = geometric_mix(student, teacher, partial_weight(student, teacher, 0.5).unsqueeze(-1))
    gap = teacher - student
    for share in (1e-3, 0.1, 0.7):
        # Another distribution near it, moved toward the teacher until it improves as much.
        neighbor = torch.lerp(target.exp(), other.exp(), share)
        lack = ((target.exp() - neighbor) * gap).sum(-1, keepdim=True)
        lift = ((teacher.exp() - neighbor) * gap).sum(-1, keepdim=True)
        neighbor = torch.lerp(neighbor, teacher.exp(), (lack / lift).clamp(0, 1))
        assert (kl(neighbor.log(), student) >= kl(target, student) - 1e-12).all()


def test_student_and_teacher_alike_have_their_target_there() -> None:
    (student,) = distributions(1, 1)
    for dtype in (torch.float32, torch.float64):
        logs = torch.stack((student, student, student), dim=1).to(dtype)
        partial_target(logs, torch.empty_like(logs), 1, 2, 0.5)
        torch.testing.assert_close(logs[:, 2], student.to(dtype))


def test_targets_are_detached() -> None:
    student, teacher, base = (p.requires_grad_() for p in distributions(2, 3))
    for objective in (
        Objective(),
        Objective(target="geometric", target_weight=0.5),
        Objective(target="geometric", target_weight=0.5, anchor="base"),
        Objective(target="partial", target_fraction=0.5),
    ):
        assert not target_log_probs(student, teacher, base, objective).requires_grad


def test_the_target_takes_the_teachers_place_in_the_loss() -> None:
    step = make_step([4, 2], div=1.0)
    objective = Objective(target="geometric", target_weight=0.4, anchor="base", temperature=0.7)
    mixed = [0.6 * base + 0.4 * teacher for base, teacher in zip(step.base, step.teacher)]
    loss, (statistics,) = step.loss(objective)
    step.teacher, teacher = mixed, step.teacher
    expected, _ = step.loss(Objective(temperature=0.7))
    torch.testing.assert_close(loss, expected)
    step.teacher = teacher
    assert statistics["teacher_kl_sum"] == step.loss(Objective(temperature=0.7))[1][0]["teacher_kl_sum"]


def test_a_base_that_is_missing_is_named() -> None:
    step = make_step([2], div=1.0)
    batch = Batch.from_rows(step.rows, [1.0])
    with pytest.raises(ValueError, match="anchored to the base"):
        loss_and_statistics(
            step.student[0], batch, Objective(target="geometric", target_weight=0.5, anchor="base"), step.teacher[0]
        )


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"target_weight": 0.5}, "target_weight is for target: geometric"),
        ({"anchor": "base"}, "anchor: base is for target: geometric"),
        ({"target_fraction": 0.5}, "target_fraction is for target: partial"),
        ({"target": "geometric", "target_weight": 0.0}, "set it above 0"),
        ({"target": "geometric", "target_fraction": 0.5}, "target_fraction is for target: partial"),
        ({"target": "partial", "target_fraction": 0.0}, "must be above 0 and at most 1"),
        ({"target": "partial", "target_fraction": 1.5}, "must be above 0 and at most 1"),
        ({"target": "partial", "anchor": "base"}, "anchor: base is for target: geometric"),
    ],
)
def test_settings_of_another_target_are_refused(settings_: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=message):
        Objective(**settings_)
