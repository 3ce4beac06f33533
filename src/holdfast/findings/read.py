"""Reads the numbers that claims need from finished runs. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from holdfast.findings.claim import Evidence, SummaryJson
from holdfast.measure.matched import compare_matched, first_crossing, stage_trajectory
from holdfast.measure.metrics import flatten_metrics
from holdfast.measure.scores import ScoreMatrix, mean, score

POINTS = 100.0


def metric(name: str) -> Callable[[SummaryJson], float | None]:
    """A function that reads one of a run's metrics (`METRICS`), in points."""

    def read(summary: SummaryJson) -> float | None:
        value = flatten_metrics(summary["metrics"])[name]
        return None if value is None else POINTS * value

    return read


def suites_lost(summary: SummaryJson) -> float | None:
    """Loss on the retention suites over the stream, in points: minus the metric `retention`, which is a change."""
    change = metric("retention")(summary)
    return None if change is None else -change


def kl_to_base(summary: SummaryJson) -> float | None:
    """KL(base‖model) at the end, nats per token, on the tasks' prompts."""
    return flatten_metrics(summary["metrics"])["kl_to_base"]


def kl_on_first_task(summary: SummaryJson) -> float | None:
    """KL(base‖model) after the first stage, nats per token, on prompts of its task."""
    return score(summary["evaluations"][1], summary["order"][0], "kl_to_base")


def suites_lost_in_first_stage(summary: SummaryJson) -> float | None:
    """Loss on the retention suites with something to lose after the first stage, in points. There are no earlier tasks
    at that time."""
    first = ScoreMatrix(summary["evaluations"][:2], summary["order"], summary["sets"])
    change = mean(first.change_of_suites("retention").values())
    return None if change is None else 0.0 - POINTS * change


def generated_tokens(summary: SummaryJson) -> float:
    """Tokens sampled over the whole stream, including hints, near-future answers and revisions."""
    return float(summary["budget"]["generated_tokens"])


def moved(summary: SummaryJson) -> float | None:
    """Distance of the final weights from the base's weights, in percent of the base's norm."""
    return POINTS * summary["drift"][-1]["overall"]["relative_norm"] if summary["drift"] else None


def rank_correlation(x: Sequence[float | None], y: Sequence[float | None]) -> float | None:
    """Spearman's correlation over the defined pairs; None with fewer than three pairs or if one side is constant."""
    from scipy.stats import spearmanr

    pairs = [(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None]
    if len(pairs) < 3 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def steps_to(score: float, stage: int = 1) -> Callable[[SummaryJson], float | None]:
    """A function that reads the optimizer steps until a stage's task first reaches a score, interpolated between
    probes.

    A run that never reaches it counts with the steps of the whole stage, fewer than it would need. If that run is the
    slower one, the difference is a lower bound. Interpolation over several steps is imprecise, so probe as often as the
    differences of interest require.
    """

    def read(summary: SummaryJson) -> float | None:
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


def generated_to(score: float, stage: int = 1) -> Callable[[SummaryJson], float | None]:
    """A function that reads the generated tokens until a stage's task reaches a score: steps × the run's mean per
    step."""

    def read(summary: SummaryJson) -> float | None:
        steps = steps_to(score, stage)(summary)
        budget = summary["budget"]
        per_step = budget["generated_tokens"] / max(1, budget["optimizer_steps"])
        return None if steps is None else steps * per_step

    return read


def matched_loss(evidence: Evidence, a: str, b: str) -> list[float | None]:
    """Forgetting of a minus forgetting of b at the same score on the new task, in points, seed by seed."""
    differences: list[float | None] = []
    for left, right in zip(evidence.summaries[a], evidence.summaries[b], strict=True):
        entry: Mapping[str, Any] = compare_matched(a, b, [(left, right)])
        losses = entry["loss_a"], entry["loss_b"]
        known = entry["method"] == "interpolated" and None not in losses
        differences.append(POINTS * (losses[0] - losses[1]) if known else None)
    return differences
