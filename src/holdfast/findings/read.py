"""Numbers of finished runs that claims are about. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from holdfast.findings.claim import Evidence, Summary
from holdfast.measure.forgetting import flatten_metrics
from holdfast.measure.matched import compare_matched, first_crossing, stage_trajectory

POINTS = 100.0


def metric(name: str) -> Callable[[Summary], float | None]:
    """One of a run's metrics in points (`METRIC_NAMES`)."""

    def read(summary: Summary) -> float | None:
        value = flatten_metrics(summary["metrics"])[name]
        return None if value is None else POINTS * value

    return read


def suites_lost(summary: Summary) -> float | None:
    """What the retention suites have lost over the stream, in points; the metric `retention` is their change."""
    change = metric("retention")(summary)
    return None if change is None else -change


def kl_to_base(summary: Summary) -> float | None:
    """KL(base‖model) at the end, nats per token, on the tasks' prompts."""
    return flatten_metrics(summary["metrics"])["kl_to_base"]


def moved_at_match(evidence: Evidence, a: str, b: str, stage: int = 1) -> list[float | None]:
    """How much further a has moved than b, in percent of the weights' norm, where both first stand at the same score.

    That is the lower of their two best scores on the stage's task, found between probes by a straight line, seed by
    seed; None where one of them did not move from its start, or the weights were not compared at probes.
    """
    return [
        _moved_further(left, right, stage)
        for left, right in zip(evidence.summaries[a], evidence.summaries[b], strict=True)
    ]


def _moved_further(a: Summary, b: Summary, stage: int) -> float | None:
    paths = [_path(summary, stage) for summary in (a, b)]
    if not all(paths):
        return None
    scores = [[score for score, _ in path] for path in paths]
    target = min(map(max, scores))
    if target <= max(own[0] for own in scores):
        return None
    at = []
    for path, own in zip(paths, scores, strict=True):
        index, share = first_crossing(own, target)
        (_, before), (_, after) = path[index], path[index + 1]
        at.append(before + share * (after - before))
    return POINTS * (at[0] - at[1])


def _path(summary: Summary, stage: int) -> list[tuple[float, float]]:
    """Score on a stage's task and distance from the base at each probe of it; empty where one was not measured."""
    task = summary["order"][stage - 1]
    probes = sorted((p for p in summary["probes"] if p["stage"] == stage), key=lambda p: p["step"])
    path = [(p["scores"].get(task), p.get("relative_norm")) for p in probes]
    known = [(score, moved) for score, moved in path if score is not None and moved is not None]
    return known if len(known) == len(path) > 2 else []


def rank_correlation(x: Sequence[float | None], y: Sequence[float | None]) -> float | None:
    """Spearman's, over the pairs that are defined; None for fewer than three or where one side does not vary."""
    from scipy.stats import spearmanr

    pairs = [(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None]
    if len(pairs) < 3 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def steps_to(score: float, stage: int = 1) -> Callable[[Summary], float | None]:
    """Optimiser steps until a stage's task first stands at a score, between probes by a straight line.

    A run that never gets there counts as its whole stage, which is less than it would take: where it is the slower one,
    the difference is a lower bound.
    """

    def read(summary: Summary) -> float | None:
        trajectory = stage_trajectory(summary, stage)
        probes = sorted((p for p in summary["probes"] if p["stage"] == stage), key=lambda p: p["step"])
        if trajectory is None or len(probes) != len(trajectory.points):
            return None
        steps = [p["step"] for p in probes]
        if max(trajectory.new()) < score:
            return float(steps[-1])
        index, share = first_crossing(trajectory.new(), score)
        return steps[index] + share * (steps[min(index + 1, len(steps) - 1)] - steps[index])

    return read


def generated_to(score: float, stage: int = 1) -> Callable[[Summary], float | None]:
    """Generated tokens until a stage's task stands at a score: steps times the run's mean per step."""

    def read(summary: Summary) -> float | None:
        steps = steps_to(score, stage)(summary)
        budget = summary["budget"]
        per_step = budget["generated_tokens"] / max(1, budget["optimizer_steps"])
        return None if steps is None else steps * per_step

    return read


def matched_loss(evidence: Evidence, a: str, b: str) -> list[float | None]:
    """How much more of what was known a has lost than b at the same new-task score, in points, seed by seed."""
    found: list[float | None] = []
    for left, right in zip(evidence.summaries[a], evidence.summaries[b], strict=True):
        entry: Mapping[str, Any] = compare_matched(a, b, [(left, right)])
        losses = entry["loss_a"], entry["loss_b"]
        known = entry["method"] == "interpolated" and None not in losses
        found.append(POINTS * (losses[0] - losses[1]) if known else None)
    return found
