"""Numbers of finished runs that claims are about. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from holdfast.findings.claim import Evidence, RunSummary
from holdfast.measure.matched import compare_matched, first_crossing, stage_trajectory
from holdfast.measure.metrics import flatten_metrics
from holdfast.measure.scores import drops, mean, score

POINTS = 100.0


def metric(name: str) -> Callable[[RunSummary], float | None]:
    """One of a run's metrics in points (`METRICS`)."""

    def read(summary: RunSummary) -> float | None:
        value = flatten_metrics(summary["metrics"])[name]
        return None if value is None else POINTS * value

    return read


def suites_lost(summary: RunSummary) -> float | None:
    """What the retention suites have lost over the stream, in points; the metric `retention` is their change."""
    change = metric("retention")(summary)
    return None if change is None else -change


def kl_to_base(summary: RunSummary) -> float | None:
    """KL(base‖model) at the end, nats per token, on the tasks' prompts."""
    return flatten_metrics(summary["metrics"])["kl_to_base"]


def kl_on_first_task(summary: RunSummary) -> float | None:
    """KL(base‖model) after the first stage, nats per token, on prompts of its task."""
    return score(summary["evaluations"][1], summary["order"][0], "kl_to_base")


def suites_lost_in_first_stage(summary: RunSummary) -> float | None:
    """What the retention suites have lost after the first stage, in points; no earlier task is among them."""
    before, after = summary["evaluations"][:2]
    suites = [each["name"] for each in summary["sets"] if each["kind"] == "retention"]
    scores = ({name: e["scores"][name]["mean"] for name in suites if name in e["scores"]} for e in (before, after))
    lost = mean(drops(*scores).values())
    return None if lost is None else POINTS * lost


def generated_tokens(summary: RunSummary) -> float:
    """Sampled over the whole stream, those spent on hints, guides and revisions too."""
    return float(summary["budget"]["generated_tokens"])


def moved(summary: RunSummary) -> float | None:
    """How far the weights are from the base's at the stream's end, in percent of their norm."""
    return POINTS * summary["drift"][-1]["overall"]["relative_norm"] if summary["drift"] else None


def rank_correlation(x: Sequence[float | None], y: Sequence[float | None]) -> float | None:
    """Spearman's, over the pairs that are defined; None for fewer than three or where one side does not vary."""
    from scipy.stats import spearmanr

    pairs = [(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None]
    if len(pairs) < 3 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def steps_to(score: float, stage: int = 1) -> Callable[[RunSummary], float | None]:
    """Optimizer steps until a stage's task first stands at a score, between probes by a straight line.

    A run that never gets there counts as its whole stage, which is less than it would take: where it is the slower one,
    the difference is a lower bound. A line over several steps says little of when it was crossed: probe as closely as
    the differences that matter.
    """

    def read(summary: RunSummary) -> float | None:
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


def generated_to(score: float, stage: int = 1) -> Callable[[RunSummary], float | None]:
    """Generated tokens until a stage's task stands at a score: steps times the run's mean per step."""

    def read(summary: RunSummary) -> float | None:
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
