"""How fast a marker grows per round of self-distillation, in which the student of one round teaches the next."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtrit

from holdfast.measure.statistics import LEVEL, Interval

_ITERATIONS = 200


@dataclass(frozen=True, slots=True)
class Amplification:
    """A marker's rate over rounds.

    Attributes:
        rates: share of prompts whose answers contain it, at each round.
        factor: growth of the rate per round, from the fit of its logarithm.
        ci95: 95% interval of the factor.
        dispersion: Pearson's χ² divided by its degrees of freedom. Well above 1, the log rate is not a straight line,
            e.g. because a rate near 1 cannot grow further. None with two rounds.
    """

    rates: tuple[float, ...]
    factor: float
    ci95: Interval
    dispersion: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def amplification(counts: Sequence[float], prompts: int, at: Sequence[float] | None = None) -> Amplification:
    """Fit log rate = intercept + slope · round by Poisson regression with Firth's penalty (Biometrika 80, 1993).

    The penalty removes the first-order bias and keeps the fit finite if a marker is absent in a round. With two rounds,
    the factor is the ratio of (count + ½). The interval is Wald's, widened by the dispersion if the counts vary more
    than Poisson counts. The same prompts are used in each round, so the counts usually vary less, and the interval is
    conservative. The growth of a marker that was selected for growing is biased upward; that of a marker named
    beforehand is not.

    Args:
        counts: number of prompts whose answers contain the marker, at each round. Fractions if prompts have several
            answers.
        prompts: number of prompts, the same in each round.
        at: position of each round, e.g. in optimizer steps; by default 0, 1, 2, …

    Raises:
        ValueError: there are fewer than two rounds, or all have the same position.
    """
    y = np.asarray(counts, dtype=float)
    x = np.arange(len(y), dtype=float) if at is None else np.asarray(at, dtype=float)
    if len(y) < 2 or np.ptp(x) == 0:
        raise ValueError("growth needs at least two different rounds")
    design = np.stack([np.ones_like(x), x - x.mean()], axis=1)
    beta = np.array([math.log((y.sum() + 0.5) / (len(y) * prompts)), 0.0])
    for _ in range(_ITERATIONS):
        mean = prompts * np.exp(design @ beta)
        inverse = np.linalg.inv(design.T @ (mean[:, None] * design))
        leverage = mean * np.einsum("ij,jk,ik->i", design, inverse, design)
        step = inverse @ (design.T @ (y + leverage / 2 - mean))
        # A step of at most e^±2 in any rate keeps Newton's method from diverging if a count is 0.
        beta += step * min(1.0, 2.0 / max(1e-12, float(np.abs(design @ step).max())))
        if float(np.abs(step).max()) < 1e-10:
            break
    freedom = len(y) - 2
    dispersion = float(((y - mean) ** 2 / mean).sum() / freedom) if freedom else None
    spread = math.sqrt(max(1.0, dispersion or 1.0) * float(inverse[1, 1]))
    over = dispersion is not None and dispersion > 1
    half = float(stdtrit(freedom, 0.5 + LEVEL / 2) if over else ndtri(0.5 + LEVEL / 2)) * spread
    slope = float(beta[1])
    interval = (_exp(slope - half), _exp(slope + half))
    return Amplification(tuple(float(v) for v in y / prompts), _exp(slope), interval, dispersion)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))
