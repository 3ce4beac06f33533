"""`holdfast.evaluate.drift.metrics`: against numpy, closed forms and the stated error bounds."""

import math
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from drift_factory import assert_same, by_numpy, orthonormal, random
from holdfast.evaluate.drift import Metrics, subspaces, tall
from holdfast.evaluate.drift.masks import change, is_changed, kth_smallest
from holdfast.evaluate.drift.metrics import Decomposed, leading, matrix_metrics, noise
from holdfast.evaluate.drift.tall import Matrix, gram


def in_memory(matrix: Tensor) -> Matrix:
    return Matrix(lambda: matrix)


def measured(before: Tensor, after: Tensor, *, rank: int = 4, share: float = 0.3, exact: bool = True) -> Metrics:
    """The metrics of two matrices in memory."""
    start, end = in_memory(before), in_memory(after)
    counts = change(start, end)
    base = Decomposed(start, leading(start, rank), noise(start, counts.before), exact=exact)
    return matrix_metrics(start, end, counts, base, rank=rank, share=share, exact=exact)


# --- against numpy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(96, 40), (40, 96), (48, 48)], ids=str)
@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-5])
def test_exact_mode_agrees_with_full_svd(shape: tuple[int, int], size: float) -> None:
    before = random(*shape)
    after = before + size * random(*shape, seed=1)
    found = measured(before, after, rank=8)
    assert found.k == 8
    # Masks are decided at a threshold, in float32 here and in float64 by numpy: an entry may fall on the other side.
    expected = by_numpy(before, after, 8, 0.3)
    loose = {name: expected.pop(name) for name in list(expected) if "principal" in name}
    assert_same(found, expected)
    for name, value in loose.items():
        assert getattr(found, name) == pytest.approx(value, abs=2.5 / before.numel() / 0.3), name


def test_large_matrices_are_streamed_to_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(random(*shape), random(*shape, seed=1)) for shape in ((90, 24), (24, 90))]
    whole = [measured(before, before + 1e-2 * step) for before, step in pairs]
    monkeypatch.setattr(tall, "IN_MEMORY", 0)
    monkeypatch.setattr(tall, "BLOCK", 24 * 7)
    for (before, step), expected in zip(pairs, whole):
        found = measured(before, before + 1e-2 * step)
        assert_same(found, {name: value for name, value in asdict(expected).items() if value is not None}, rel=1e-6)


def test_gram_matrix_by_strips() -> None:
    matrix = random(50, 13)
    found = gram(in_memory(matrix)).numpy()
    assert np.tril(found) == pytest.approx(np.tril((matrix.double().T @ matrix.double()).numpy()))


@given(st.lists(st.floats(0, 2.0**100, width=32), min_size=1, max_size=60), st.data())
def test_order_statistics_are_exact(numbers: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(numbers)))
    cut = data.draw(st.integers(0, len(numbers)))

    def blocks() -> Iterator[Tensor]:
        yield from (torch.tensor(part, dtype=torch.float32) for part in (numbers[:cut], numbers[cut:]) if part)

    assert kth_smallest(blocks, k) == sorted(numbers)[k - 1]


# --- closed forms ----------------------------------------------------------------------------------------------------


def test_scaled_matrix() -> None:
    before = random(60, 30)
    found = measured(before, before * 1.25)
    assert found.relative_norm == pytest.approx(0.25, rel=1e-6)
    assert found.spectral_shift == pytest.approx(0.25, rel=1e-6)
    assert (found.left_angle, found.right_angle) == pytest.approx((0, 0), abs=1e-3)
    assert (found.unchanged, found.principal_overlap, found.principal_changed) == (0, 1, 1)
    step = torch.linalg.svdvals(before.double())
    assert found.stable_rank == pytest.approx(float(step.square().sum() / step[0] ** 2), rel=1e-5)


@pytest.mark.parametrize("is_wide", [False, True])
@pytest.mark.parametrize("degrees", [1e-3, 0.1, 3.6, 60.0, 89.0])
def test_rotation_of_the_leading_left_subspace(degrees: float, is_wide: bool) -> None:
    basis, v = orthonormal(60, 25), orthonormal(24, 24, seed=1)
    u = basis[:, :24]
    values = torch.cat((torch.linspace(20, 10, 4), torch.linspace(2, 1, 20))).double()
    turned, angle = u.clone(), math.radians(degrees)
    turned[:, 1] = math.cos(angle) * u[:, 1] + math.sin(angle) * basis[:, 24]
    before, after = (((left * values) @ v.T).float() for left in (u, turned))
    if is_wide:
        before, after = before.T, after.T
    found = measured(before, after)
    angles = (found.right_angle, found.left_angle) if is_wide else (found.left_angle, found.right_angle)
    assert angles == pytest.approx((degrees, 0), rel=1e-3, abs=2e-5)
    assert found.spectral_shift == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("rank", [1, 3])
def test_stable_rank_of_a_product_of_directions_is_their_number(rank: int) -> None:
    before = random(40, 20)
    found = measured(before, before + 0.1 * (orthonormal(40, rank) @ orthonormal(20, rank, seed=1).T).float())
    assert found.stable_rank == pytest.approx(rank, rel=1e-5)
    assert found.update_norm == pytest.approx(0.1 * math.sqrt(rank), rel=1e-5)


def test_rank_of_the_model_limits_the_subspace() -> None:
    before = (orthonormal(40, 1) @ orthonormal(20, 1, seed=1).T).float()
    found = measured(before, 1.5 * before)
    assert found.k == 1
    assert (found.spectral_shift, found.left_angle) == pytest.approx((0.5, 0), abs=1e-5)


def test_subspace_without_a_gap_has_no_angle() -> None:
    before = torch.eye(16)
    found = measured(before, before + 1e-3 * random(16, 16))
    assert found.gap == pytest.approx(0, abs=1e-12)
    assert found.left_angle is None
    assert found.spectral_shift is not None


def test_rule_for_unchanged_entries() -> None:
    before = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, -1.0, 1.0])
    after = torch.tensor([1.0005, 1.0009, 1.0011, 0.0, 1e-30, 1.0, 0.9989])
    assert is_changed(before, after).tolist() == [False, False, True, False, True, True, True]
    # Neighboring numbers in bfloat16 always count as changed.
    numbers = torch.tensor([1.0, 1.9921875, 0.001, 300.0]).bfloat16()
    following = (numbers.view(torch.int16) + 1).view(torch.bfloat16)
    assert bool(is_changed(numbers.float(), following.float()).all())


def test_changes_in_masks_by_hand() -> None:
    before = torch.outer(torch.tensor([4.0, 3.0, 2.0, 1.0, 0.5]), torch.tensor([1.0, 0.5, 0.25, 0.125]))
    after = before.clone()
    after[0, 0] *= 1.01  # the largest entry, in the principal mask
    after[4, 3] *= 1.01  # the smallest
    after[4, 2] *= 1.01  # the third smallest
    after[2, 1] *= 1.01  # in the middle
    found = measured(before, after, rank=1, share=0.2)
    assert found.unchanged == pytest.approx(16 / 20)
    assert found.changes_in_principal == pytest.approx(1 / 4)
    assert found.changes_in_low == pytest.approx(2 / 4)
    assert found.principal_changed == pytest.approx(1 / 4)
    assert found.principal_overlap == 1


# --- randomized ------------------------------------------------------------------------------------------------------


def spectrum_like(decay: float, rows: int = 160, columns: int = 120) -> Tensor:
    values = torch.arange(1, columns + 1).double() ** -decay
    return ((orthonormal(rows, columns) * values) @ orthonormal(columns, columns, seed=1).T).float()


@pytest.mark.parametrize("decay", [0.1, 0.7, 2.0])
def test_randomized_is_within_its_stated_error(decay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subspaces, "OVERSAMPLING", 4)
    before = spectrum_like(decay)
    after = before + 1e-3 * before.norm() / math.sqrt(before.numel()) * random(*before.shape)
    found, exact = (measured(before, after, exact=is_exact) for is_exact in (False, True))
    for name in ("relative_norm", "unchanged"):
        assert getattr(found, name) == getattr(exact, name)
    assert exact.angle_error == 0
    assert found.angle_error is not None
    assert found.left_angle == pytest.approx(exact.left_angle, abs=found.angle_error + 1e-6)
    assert found.right_angle == pytest.approx(exact.right_angle, abs=found.angle_error + 1e-6)
    assert found.stable_rank == pytest.approx(exact.stable_rank, abs=found.stable_rank_error + 1e-3)
    assert found.spectral_shift_range is not None
    low, high = found.spectral_shift_range
    assert low <= exact.spectral_shift <= high
    assert found.spectral_shift == pytest.approx(exact.spectral_shift, rel=0.4)  # an estimate
    if decay > 1:
        assert found.angle_error < subspaces.GOOD_ENOUGH * 2
        assert found.principal_overlap == pytest.approx(exact.principal_overlap, abs=1e-3)


def test_randomized_singular_values_err_no_more_than_stated() -> None:
    matrix = spectrum_like(0.3)
    found = subspaces.spectrum(in_memory(matrix), 10, exact=False)
    true = torch.linalg.svdvals(matrix.double())[:11]
    assert bool(((found.values - true).abs() <= found.value_errors + 1e-9).all())
    assert not found.is_exact


def test_randomized_finds_a_low_rank_whole() -> None:
    matrix = (orthonormal(80, 3) * torch.tensor([3.0, 2.0, 1.0])).double() @ orthonormal(50, 3, seed=1).T
    found = subspaces.spectrum(in_memory(matrix.float()), 3, exact=False)
    assert found.values[:3].tolist() == pytest.approx([3, 2, 1], rel=1e-6)
    assert found.angle_error(3) < 1e-3


def test_equal_matrices_have_equal_random_starts() -> None:
    matrix = spectrum_like(0.05)
    first, second = (subspaces.spectrum(in_memory(matrix.clone()), 8, exact=False) for _ in range(2))
    assert torch.equal(first.right, second.right)


def test_order_of_rows_and_columns_does_not_matter() -> None:
    before = random(60, 20)
    after = before + 1e-2 * random(60, 20, seed=1)
    rows, columns = torch.randperm(60), torch.randperm(20)
    expected = asdict(measured(before, after))
    for found in (measured(before[rows], after[rows]), measured(before[:, columns], after[:, columns])):
        assert_same(found, {name: value for name, value in expected.items() if value is not None}, rel=1e-6)
