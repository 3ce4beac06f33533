"""The Pareto front of final score and old skills, with what resampled worlds make of it. Torch-free.

A resample draws as many worlds as there are, with replacement. All arms and both orders of a drawn world go along, so
that what arms share in a world cancels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holdfast.data.seeds import numpy_rng
from holdfast.findings.front.standing import Standing
from holdfast.summary.comparison import pareto_front

RESAMPLES = 4000

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """The best old-skills score that an arm with at least a given final score reaches.

    Attributes:
        final: final scores, rising, in points.
        low, mean, high: of the best old-skills score: the 2.5% quantile over resamples, the value by the means, and
            the 97.5% quantile.
    """

    final: tuple[float, ...]
    low: tuple[float, ...]
    mean: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Front:
    """The front, and how sure it is.

    Attributes:
        on_front: labels of the arms that no other arm beats on both means.
        shares: by label, the share of resamples in which the arm is on the front.
    """

    on_front: tuple[str, ...]
    shares: dict[str, float]
    band: Band


def resampled_means(values: Points) -> Points:
    """Means over resampled worlds.

    Args:
        values: (arms, worlds).

    Returns:
        (resamples, arms). The draws are the same for every call with as many worlds.
    """
    worlds = values.shape[1]
    drawn = numpy_rng("front", worlds).integers(worlds, size=(RESAMPLES, worlds))
    return np.asarray(values[:, drawn].mean(axis=2).T)


def front_of(standings: Sequence[Standing]) -> Front:
    """The front of the arms' means over worlds and orders."""
    labels = [each.arm.label for each in standings]
    final, kept = (np.array([each.worlds(name) for each in standings]) for name in ("final", "kept"))
    means = {label: (float(f), -float(k)) for label, f, k in zip(labels, final.mean(1), kept.mean(1), strict=True)}
    drawn_final, drawn_kept = resampled_means(final), resampled_means(kept)
    shares = (~_beaten(drawn_final, drawn_kept)).mean(axis=0)
    return Front(
        tuple(pareto_front(means)),
        {label: float(share) for label, share in zip(labels, shares, strict=True)},
        _band(final.mean(1), kept.mean(1), drawn_final, drawn_kept),
    )


def _beaten(final: Points, kept: Points) -> NDArray[np.bool_]:
    """(resamples, arms): whether another arm is at least as good on both, and better on one."""
    f, k = final[:, :, None], kept[:, :, None]
    other_f, other_k = final[:, None, :], kept[:, None, :]
    at_least = (other_f >= f) & (other_k >= k)
    return np.asarray((at_least & ((other_f > f) | (other_k > k))).any(axis=2))


def _band(final: Points, kept: Points, drawn_final: Points, drawn_kept: Points) -> Band:
    """At the arms' own final scores. Where no arm of a resample scores as high, the resample is left out."""
    levels = np.unique(final)
    low, high, middle = [], [], []
    for level in levels:
        best = np.where(drawn_final >= level, drawn_kept, -np.inf).max(axis=1)
        known = best[np.isfinite(best)]
        low.append(float(np.quantile(known, 0.025)))
        high.append(float(np.quantile(known, 0.975)))
        middle.append(float(kept[final >= level].max()))
    return Band(tuple(map(float, levels)), tuple(low), tuple(middle), tuple(high))
