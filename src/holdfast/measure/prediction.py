"""KL to the base as a predictor of forgetting, from evaluations.

arXiv 2509.04259 reports that KL on the new tasks' prompts predicts forgetting. KL on the demonstrations of retention
suites follows it more closely. But it is measured on the items that are forgotten, so it is a measure of the loss
rather than a forecast of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.measure.metrics import compute_metrics
from holdfast.measure.response import fit_forgetting
from holdfast.measure.scores import Json

FEWEST = 3
"""Smallest number of runs for a fit."""


def prediction_points(
    evaluations: Sequence[Mapping[str, Any]],
    order: Sequence[str],
    sets: Sequence[Mapping[str, Any]],
    *,
    label: str,
    seed: int,
    order_index: int = 0,
) -> list[Json]:
    """KL on the tasks learned so far, KL on old skills, and forgetting, after each finished stage of a run.

    KL on old skills may be missing (None). A stage without one of the others is left out, such as a first stage without
    retention suites. Tasks that are not
    trained yet do not count as forgotten.

    Args:
        evaluations, order, sets: as in `compute_metrics`.
    """
    points = []
    for stage in range(1, len(evaluations)):
        metrics = compute_metrics(evaluations[: stage + 1], order, sets)
        kl, lost = metrics["kl_to_base"]["mean"], metrics["loss_of_earlier"]["mean"]
        if kl is not None and lost is not None:
            run = {"label": label, "seed": seed, "order_index": order_index}
            old = metrics["kl_forgetting"]["mean"]
            points.append({**run, "stage": stage, "kl": kl, "kl_old": old, "forgetting": lost})
    return points


def forgetting_prediction(points: Sequence[Mapping[str, Any]], last_stage: int | None = None) -> Json:
    """The `forgetting_prediction` block of a summary.

    Args:
        points: the points of all runs.
        last_stage: the stage whose points are fitted, one per run. None for a single run, which has no fit.
    """
    ends = [point for point in points if point["stage"] == last_stage]
    return {"points": list(points), "fit": _fit(ends, "kl"), "fit_old": _fit(ends, "kl_old")}


def _fit(ends: Sequence[Mapping[str, Any]], key: str) -> Json | None:
    """The line of forgetting over one KL; None if it is missing in a run, the same in all, or there are too few."""
    kl = [point.get(key) for point in ends]
    if len(ends) < FEWEST or None in kl or len(set(kl)) < 2:
        return None
    line = fit_forgetting([value for value in kl if value is not None], [point["forgetting"] for point in ends])
    fit = {"slope": line.slope, "slope_ci95": line.slope_ci95, "r2": line.r2}
    return fit | {"spearman": line.spearman, "n": line.n}
