"""`holdfast.evaluation.drift.conflict`: against the Bures-Wasserstein distance by matrix roots, and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from drift_factory import orthonormal, random
from holdfast.evaluation.drift.conflict import conflict_of, geometry_conflict
from holdfast.evaluation.drift.metrics import Decomposed
from holdfast.evaluation.drift.tall import Matrix


def by_square_roots(a: np.ndarray, b: np.ndarray) -> float:
    """d²(A, B) / (tr A + tr B) of two covariances, from the definition."""
    root = sqrtm(a)
    inner = np.real(np.trace(sqrtm(root @ b @ root)))
    traces = np.trace(a) + np.trace(b)
    return float(np.real(traces - 2 * inner) / traces)


@pytest.mark.parametrize("shape", [(12, 8), (8, 12), (9, 9)], ids=str)
def test_it_is_the_distance_of_covariances_over_the_inputs(shape: tuple[int, int]) -> None:
    updates = [random(*shape, seed=seed).double() * size for seed, size in ((0, 1.0), (1, 0.3))]
    k = min(shape)
    factors = [Decomposed(Matrix(lambda u=u: u.float()), k, 1e-9, exact=True).input_factor() for u in updates]
    for update, factor in zip(updates, factors, strict=True):
        assert torch.allclose(factor @ factor.T, update.T @ update, atol=1e-5)
    # A tiny ridge, because scipy's square root of a singular matrix is not accurate.
    covariances = [(u.T @ u).numpy() + 1e-12 * np.eye(shape[1]) for u in updates]
    assert geometry_conflict(*factors) == pytest.approx(by_square_roots(*covariances), abs=1e-4)


@given(st.floats(0.01, 100), st.integers(0, 5))
def test_sizes_directions_and_symmetry(size: float, seed: int) -> None:
    factor = random(10, 3, seed=seed).double()
    assert geometry_conflict(factor, size * factor) == pytest.approx((1 - size) ** 2 / (1 + size**2), abs=1e-9)
    turned = factor @ orthonormal(3, 3, seed=seed + 1).double()  # another factor of the same covariance
    assert geometry_conflict(factor, turned) == pytest.approx(0, abs=1e-9)
    other = random(10, 2, seed=seed + 7).double()
    assert geometry_conflict(factor, other) == pytest.approx(geometry_conflict(other, factor), abs=1e-12)
    assert 0 <= geometry_conflict(factor, other) <= 1
    apart = orthonormal(10, 6, seed=seed).double()
    assert geometry_conflict(apart[:, :3], apart[:, 3:]) == pytest.approx(1)


def test_the_gap_is_above_pairwise_conflict_where_the_state_outgrew_the_updates() -> None:
    direction = orthonormal(6, 1).double()
    found = conflict_of([direction] * 4, 4 * direction)
    assert found is not None
    assert (found.pairwise, found.state) == pytest.approx((0, 9 / 17))
    assert found.gap == found.state - found.pairwise
    assert conflict_of([direction], direction) is None
