"""Forgetting of two recipes at a matched new-task score.

A recipe that learns less also forgets less, so end points alone cannot rank recipes. Here two runs with the same seed
and task order are compared, stage by stage, at a score that both reached: s* is the lower of their two best scores on
the stage's task. A run's trajectory is the evaluation before the stage, the probes within, and the evaluation after.
Linear interpolation gives its first crossing of s*. There the loss of the earlier tasks and the retention suites is
read off.

The mean over stages is one number per paired run, and the paired t test is over runs. So the unit of evidence is a run:
stages within a run are averaged, never counted as independent. Seeds and task orders count equally.

Two losses are read at the match. They answer different questions:

- The loss: counted from just after each task was learned, and for suites from the base, as `loss_of_earlier` is. It is
  what the user has lost by then. Losses of earlier stages count, including those after an earlier stage's own match.
- Within the stage: counted from the stage's start. It is the cost of learning this one task to this score. A recipe
  that has little left to lose looks cheap here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from holdfast.measure.scores import Json, mean, scores_of
from holdfast.measure.statistics import holm, paired_difference

ScoresBySet = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One stage of one run.

    Args:
        task: the stage's task.
        points: scores by set, in step order. The first is from before the stage, the last from after it.
        before, after: scores of the full evaluations there. Probes may use fewer items.
        reference: the scores that losses are counted from: the base's for suites, those when learned for earlier tasks.
        probed: whether there are points within the stage.
    """

    task: str
    points: Sequence[ScoresBySet]
    before: ScoresBySet
    after: ScoresBySet
    reference: ScoresBySet
    probed: bool

    def new(self) -> list[float]:
        return [point[self.task] for point in self.points]


@dataclass(frozen=True, slots=True)
class StageMatch:
    """Two runs in one stage. A positive loss means forgetting. Numbers at the match are None without a match."""

    probed: bool
    matched_score: float | None
    loss_a: float | None
    loss_b: float | None
    within_a: float | None
    within_b: float | None
    end_loss_a: float
    end_loss_b: float
    new_task_a: float
    new_task_b: float


def first_crossing(new: Sequence[float], target: float) -> tuple[int, float]:
    """Where a trajectory first reaches a score: the index of the point before, and the fraction of the way to the next.

    Raises:
        ValueError: the trajectory never reaches the score.
    """
    for i, value in enumerate(new):
        if value >= target:
            return (0, 0.0) if i == 0 else (i - 1, (target - new[i - 1]) / (value - new[i - 1]))
    raise ValueError(f"the trajectory never reaches {target}")


def stage_trajectory(summary: Mapping[str, Any], stage: int) -> Trajectory | None:
    """One stage (from 1) of a run's summary. None if it is not finished or its task has no scores."""
    evaluations, order = summary["evaluations"], summary["order"]
    if stage >= len(evaluations):
        return None
    table = [scores_of(e) for e in evaluations]
    task, before, after = order[stage - 1], table[stage - 1], table[stage]
    if task not in before or task not in after:
        return None
    retained = {s["name"] for s in summary["sets"] if s["kind"] == "retention"}
    reference = {name: value for name, value in table[0].items() if name in retained}
    reference |= {old: table[j][old] for j, old in enumerate(order[: stage - 1], 1) if old in table[j]}
    probes = sorted((p for p in summary["probes"] if p["stage"] == stage), key=lambda p: p["step"])
    points = [p["scores"] for p in probes if task in p["scores"]]
    probed = len(points) > 2
    return Trajectory(task, points if probed else [before, after], before, after, reference, probed)


def match_stage(a: Trajectory, b: Trajectory) -> StageMatch | None:
    """Compare two runs in one stage, on the earlier sets that every point of both has. None if there are none.

    There is no match (None in its numbers) without probes, or if s* is not above both starting scores: a recipe that
    learns nothing forgets nothing, which proves nothing.
    """
    names = [n for n in a.reference if n in b.reference]
    names = [n for n in names if all(n in p for t in (a, b) for p in (*t.points, t.before, t.after))]
    if not names:
        return None

    def lost(t: Trajectory, since: ScoresBySet, now: ScoresBySet) -> float:
        return sum(since[n] - now[n] for n in names) / len(names)

    target = min(max(a.new()), max(b.new()))
    probed = a.probed and b.probed
    matched = probed and target > max(a.new()[0], b.new()[0])

    def at_match(t: Trajectory) -> tuple[float | None, float | None]:
        if not matched:
            return None, None
        i, share = first_crossing(t.new(), target)
        around = [lost(t, t.points[0], t.points[k]) for k in (i, i + 1)]
        within = around[0] + share * (around[1] - around[0])
        # Probes use a part of the items, so within the stage they are compared only with each other.
        return lost(t, t.reference, t.before) + within, within

    (loss_a, within_a), (loss_b, within_b) = at_match(a), at_match(b)
    return StageMatch(
        probed=probed,
        matched_score=target if matched else None,
        loss_a=loss_a,
        loss_b=loss_b,
        within_a=within_a,
        within_b=within_b,
        end_loss_a=lost(a, a.reference, a.after),
        end_loss_b=lost(b, b.reference, b.after),
        new_task_a=a.after[a.task],
        new_task_b=b.after[b.task],
    )


def compare_matched(a: str, b: str, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Json:
    """One entry of a comparison's `matched` block, not yet corrected for several comparisons.

    Args:
        a, b: the labels.
        pairs: summaries of runs of a and b with the same seed and task order.

    Returns:
        `method` is "interpolated", or "end points" if no stage of both has probes. With "end points", the losses are
        those at the end of each stage, unmatched, and `end_of_stage.new_task_gap` is the difference of new-task scores.
    """
    runs: list[dict[int, StageMatch]] = []
    for left, right in pairs:
        by_stage: dict[int, StageMatch] = {}
        for stage in range(1, len(left["order"]) + 1):
            t_a, t_b = stage_trajectory(left, stage), stage_trajectory(right, stage)
            if t_a and t_b and (match := match_stage(t_a, t_b)):
                by_stage[stage] = match
        runs.append(by_stage)
    matches = [match for run in runs for match in run.values()]
    interpolated = not matches or any(match.probed for match in matches)

    def per_run(field: str) -> list[float | None]:
        return [mean(v for m in run.values() if (v := getattr(m, field)) is not None) for run in runs]

    def losses(field_a: str, field_b: str) -> Json:
        left, right = per_run(field_a), per_run(field_b)
        return {"loss_a": _mean(left), "loss_b": _mean(right), **paired_difference(left, right).as_json()}

    end = losses("end_loss_a", "end_loss_b")
    new_a, new_b = _mean(per_run("new_task_a")), _mean(per_run("new_task_b"))
    gap = None if new_a is None or new_b is None else new_a - new_b
    used = [m for m in matches if m.matched_score is not None] if interpolated else matches
    return {
        "a": a,
        "b": b,
        "method": "interpolated" if interpolated else "end points",
        "matched_score": _mean(per_run("matched_score")) if interpolated else None,
        "stages_used": len(used),
        "stages_skipped": len(matches) - len(used),
        **(losses("loss_a", "loss_b") if interpolated else end),
        "within_stage": losses("within_a", "within_b") if interpolated else None,
        "end_of_stage": {**end, "new_task_a": new_a, "new_task_b": new_b, "new_task_gap": gap},
        "stages": [_stage_entry(stage, runs) for stage in sorted({s for run in runs for s in run})],
    }


def correct_family(entries: Sequence[Json]) -> None:
    """Add `p_holm` to every `p` of the matched entries. Each kind of loss is its own family."""
    within = [entry["within_stage"] for entry in entries if entry["within_stage"]]
    for family in (entries, within, [entry["end_of_stage"] for entry in entries]):
        for entry, p in zip(family, holm([entry["p"] for entry in family]), strict=True):
            entry["p_holm"] = p


def _stage_entry(stage: int, runs: Sequence[Mapping[int, StageMatch]]) -> Json:
    """A stage's means over the runs that define a number. `n` counts the runs with a match."""
    here = [run[stage] for run in runs if stage in run]
    numbers = {f.name: mean(v for m in here if (v := getattr(m, f.name)) is not None) for f in fields(StageMatch)[1:]}
    return {"stage": stage, "n": sum(m.matched_score is not None for m in here), **numbers}


def _mean(values: Sequence[float | None]) -> float | None:
    return mean(v for v in values if v is not None)
