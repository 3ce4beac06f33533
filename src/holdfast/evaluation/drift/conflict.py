"""How much the updates of a stream conflict with each other, and with the state that they have led to together.

The geometry of an update Δ is C = ΔᵀΔ, over the input side of a matrix, from Δ's leading singular vectors. The conflict
of two updates is the squared Bures-Wasserstein distance of their geometries, divided by the sum of their traces (arXiv
2605.09608, section 2). It is 0 for equal geometries, 1 for orthogonal ones, and not 0 for updates of the same
directions and different sizes: sizes s and 1 have the conflict (1 − s)² / (1 + s²).

The paper's *state-relative gap* is a reconstruction here, from the released analysis code: that code averages the
conflicts of all pairs of updates, and the conflicts of the state, the update from the base to the current model, with
each of them, but the difference is taken in the paper only. Two things differ: there, updates of tasks are those of
experts trained from the base, and here those of the stages; and nothing is added to C. The added 10⁻⁶ I makes small
updates look compatible, whatever their directions.
"""

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

import torch
from torch import Tensor

from holdfast.evaluation.drift.result import Conflict


def geometry_conflict(a: Tensor, b: Tensor) -> float:
    """The conflict of two updates, from factors F [inputs, k] of their geometries C = F Fᵀ, not both 0.

    With C_a = F_a F_aᵀ, the trace of (C_a^½ C_b C_a^½)^½ is the sum of the singular values of F_aᵀ F_b.
    """
    traces = float(a.square().sum() + b.square().sum())
    return max(0.0, 1 - 2 * float(torch.linalg.svdvals(a.T @ b).sum()) / traces)


def conflict_of(updates: Sequence[Tensor], state: Tensor) -> Conflict | None:
    """The conflicts of a stream's updates, from their factors; None with fewer than two updates."""
    if len(updates) < 2:
        return None
    pairs = [geometry_conflict(a, b) for a, b in combinations(updates, 2)]
    return Conflict(fmean(pairs), fmean(geometry_conflict(state, each) for each in updates))
