"""KL to the base on the tasks' prompts as a predictor of forgetting (arXiv 2509.04259), from evaluations."""

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
    """KL on the tasks learned so far, and forgetting, after each finished stage of a run.

    A stage without one of the two is left out, such as a first stage without retention suites. Tasks that are not
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
            points.append({**run, "stage": stage, "kl": kl, "forgetting": lost})
    return points


def forgetting_prediction(points: Sequence[Mapping[str, Any]], last_stage: int | None = None) -> Json:
    """The `forgetting_prediction` block of a summary.

    Args:
        points: the points of all runs.
        last_stage: the stage whose points are fitted, one per run. None for a single run, which has no fit.
    """
    ends = [point for point in points if point["stage"] == last_stage]
    fit = None
    if len(ends) >= FEWEST and len({point["kl"] for point in ends}) > 1:
        line = fit_forgetting([point["kl"] for point in ends], [point["forgetting"] for point in ends])
        fit = {"slope": line.slope, "slope_ci95": line.slope_ci95, "r2": line.r2}
        fit |= {"spearman": line.spearman, "n": line.n}
    return {"points": list(points), "fit": fit}
