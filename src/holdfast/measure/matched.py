"""Forgetting of two recipes at a matched new-task score.

A recipe that learns less also forgets less, so end points alone cannot rank recipes. Here two runs with the same seed
and task order are compared, stage by stage, at a score that both reached. A run's trajectory is the evaluation before
the stage, the probes within, and the evaluation after. At its first crossing of the matched score, the loss of the
earlier tasks and the retention suites is read off.

Three things would bias this, and each has its rule (`benchmarks/matched.py` measures what the rules achieve):

- Wide gaps. Between two points the loss is interpolated linearly in the score, but it usually rises late. So the loss
  of a run that crosses a wide gap, which is the faster learner, comes out too high. A stage is not matched if the score
  rises by more than `WIDEST_GAP` between the two points around the match. Their two losses are reported next to the
  interpolated one: the loss lies between them if score and loss move one way in between.
- Noise of the scores. A first crossing picks upward errors, and those of the slower learner, which has many points
  around the match. So the scores are first made to rise (isotonic regression over steps): points that fall back are
  pooled with those before, scores and losses alike.
- The top. The lower of the two best scores would be an upward error, too. So the matched score lies `SHARE` of the way
  up to it from the higher start, where both runs have points on both sides.

The mean over stages is one number per paired run, and the paired t test is over runs. So the unit of evidence is a run:
stages within a run are averaged, never counted as independent. Seeds and task orders count equally.

Two losses are read at the match. They answer different questions:

- Within the stage: counted from the stage's start. It is the cost of learning this one task to this score, and what
  verdicts compare. A set that either run has nothing left to lose of when the stage starts does not count.
- The loss: counted from just after each task was learned, and for suites from the base, as `loss_of_earlier` is. It is
  what the user has lost by then. Losses of earlier stages count, including those after an earlier stage's own match:
  after the first stage it also compares how far each recipe has learned earlier tasks, which nothing matches. The
  faster of two recipes with the same curve seems to lose more.

A set counts only if it had something to lose in both runs: the score that its loss is counted from is above its chance
level (`holdfast.measure.chance`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.measure.scores import Json, ScoreMatrix, mean, scores_of
from holdfast.measure.statistics import holm, paired_difference, score_error

ScoresBySet = Mapping[str, float]

WIDEST_GAP = 0.15
"""The largest rise of the new task's score between the two points around a match."""

SHARE = 0.9
"""Where the matched score lies between the higher start (0) and the lower best score (1)."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One stage of one run.

    Args:
        task: the stage's task.
        points: scores by set, in step order. The first is from before the stage, the last from after it.
        before, after: scores of the full evaluations there. Probes may use fewer items.
        reference: the scores that losses are counted from: the base's for suites, those when learned for earlier tasks.
            Sets that had nothing to lose there are left out.
        left: those of them that still have something to lose when the stage starts.
        probed: whether there are points within the stage.
        items: how many items a point uses, by set. Sets whose number is not known are left out.
        all_items: how many items a full evaluation uses.
    """

    task: str
    points: Sequence[ScoresBySet]
    before: ScoresBySet
    after: ScoresBySet
    reference: ScoresBySet
    left: frozenset[str]
    probed: bool
    items: Mapping[str, int]
    all_items: Mapping[str, int]

    def new(self) -> list[float]:
        return [point[self.task] for point in self.points]


@dataclass(frozen=True, slots=True)
class LossAtMatch:
    """The mean loss of one run at a matched score.

    Args:
        loss: interpolated.
        below, above: at the two points around the match.
        within_loss, within_below, within_above: the same, counted from the stage's start. None if no set has anything
            left to lose there.
        gap: by how much the score rises between the two points.
        error, within_error: standard errors of the losses, as `_error` gives them.
    """

    loss: float
    below: float
    above: float
    within_loss: float | None
    within_below: float | None
    within_above: float | None
    gap: float
    error: float | None
    within_error: float | None


@dataclass(frozen=True, slots=True)
class LossAtEnd:
    """The mean loss of one run at the end of a stage, its standard error, and the score of the stage's task there."""

    loss: float
    error: float | None
    new_task: float


@dataclass(frozen=True, slots=True)
class StageMatch:
    """Two runs in one stage. A positive loss means forgetting.

    Args:
        too_wide: a match was refused, because the score rises too far between the two points around it.
        matched_score, a, b: None without a match.
    """

    probed: bool
    too_wide: bool
    matched_score: float | None
    a: LossAtMatch | None
    b: LossAtMatch | None
    end_a: LossAtEnd
    end_b: LossAtEnd


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
    matrix = ScoreMatrix(evaluations, order, summary["sets"])
    start = dict.fromkeys(matrix.suites("retention"), 0) | {old: j for j, old in enumerate(order[: stage - 1], 1)}
    reference = {name: table[j][name] for name, j in start.items() if matrix.has_to_lose(name, j)}
    left = frozenset(name for name in reference if matrix.has_to_lose(name, stage - 1))
    probes = sorted((p for p in summary["probes"] if p["stage"] == stage), key=lambda p: p["step"])
    points = [p["scores"] for p in probes if task in p["scores"]]
    probed = len(points) > 2
    most = summary.get("probe_items") if probed else None
    all_items = {s["name"]: s["n"] for s in summary["sets"] if "n" in s}
    items = {name: min(n, most or n) for name, n in all_items.items()}
    points = points if probed else [before, after]
    return Trajectory(task, points, before, after, reference, left, probed, items, all_items)


def rising(points: Sequence[ScoresBySet], task: str, names: Sequence[str]) -> list[ScoresBySet]:
    """A trajectory whose scores of the task rise strictly: its isotonic regression, one point per level.

    Points that fall back are pooled with those before them (pool adjacent violators; Barlow et al. 1972), and every
    set's score is their mean. What comes after the last point within `WIDEST_GAP` of the best score is left out: the
    task is being lost there, and not learned.

    Args:
        names: the other sets.
    """
    scores = [point[task] for point in points]
    last = max(i for i, score in enumerate(scores) if score >= max(scores) - WIDEST_GAP)
    pools: list[list[ScoresBySet]] = []

    def level(pool: Sequence[ScoresBySet], name: str = task) -> float:
        return math.fsum(point[name] for point in pool) / len(pool)

    for point in points[: last + 1]:
        pools.append([point])
        while len(pools) > 1 and level(pools[-2]) >= level(pools[-1]):
            fallen = pools.pop()
            pools[-1] += fallen
    return [{name: level(pool, name) for name in (task, *names)} for pool in pools]


def match_stage(a: Trajectory, b: Trajectory) -> StageMatch | None:
    """Compare two runs in one stage, on the earlier sets that every point of both has, and that had something to lose.

    None if there are none.

    There is no match (None in its numbers) without probes, if the lower best score is not above both starting scores (a
    recipe that learns nothing forgets nothing, which proves nothing), or if a gap is too wide.
    """
    names = [n for n in a.reference if n in b.reference]
    names = [n for n in names if all(n in p for t in (a, b) for p in (*t.points, t.before, t.after))]
    if not names:
        return None

    probed = a.probed and b.probed
    target, at = None, None
    if probed:
        levels = [rising(t.points, t.task, names) for t in (a, b)]
        start = max(own[0][a.task] for own in levels)
        top = min(own[-1][a.task] for own in levels)
        if top > start:
            target = start + SHARE * (top - start)
            left_over = [n for n in names if n in a.left and n in b.left]
            at = [_at_match(t, own, target, names, left_over) for t, own in zip((a, b), levels, strict=True)]
    too_wide = at is not None and max(each.gap for each in at) > WIDEST_GAP
    left, right = at if at is not None and not too_wide else (None, None)
    return StageMatch(
        probed=probed,
        too_wide=too_wide,
        matched_score=None if left is None else target,
        a=left,
        b=right,
        end_a=_at_end(a, names),
        end_b=_at_end(b, names),
    )


def _at_end(t: Trajectory, names: Sequence[str]) -> LossAtEnd:
    loss = sum(t.reference[n] - t.after[n] for n in names) / len(names)
    return LossAtEnd(loss, _error(t.after, names, t.all_items), t.after[t.task])


def _at_match(
    t: Trajectory, levels: Sequence[ScoresBySet], target: float, names: Sequence[str], left: Sequence[str]
) -> LossAtMatch:
    """The losses where a run's rising trajectory crosses the target, which lies above its first level.

    Args:
        names: the sets of the loss.
        left: the sets of the loss within the stage.
    """
    i, share = first_crossing([level[t.task] for level in levels], target)
    low, high = levels[i], levels[i + 1]

    def lost(sets: Sequence[str]) -> tuple[float, float, float]:
        """Since the stage's start: at the match, and at the points below and above it."""
        # Probes use a part of the items, so within the stage they are compared only with each other.
        below, above = (sum(t.points[0][n] - level[n] for n in sets) / len(sets) for level in (low, high))
        return below + share * (above - below), below, above

    def error(sets: Sequence[str]) -> float | None:
        return _error({n: low[n] + share * (high[n] - low[n]) for n in sets}, sets, t.items)

    earlier = sum(t.reference[n] - t.before[n] for n in names) / len(names)
    loss, below, above = (earlier + each for each in lost(names))
    within: tuple[float | None, float | None, float | None] = lost(left) if left else (None, None, None)
    gap = high[t.task] - low[t.task]
    return LossAtMatch(loss, below, above, *within, gap, error(names), error(left) if left else None)


def _error(scores: ScoresBySet, names: Sequence[str], items: Mapping[str, int]) -> float | None:
    """Standard error of a mean of scores that the choice of items alone accounts for; None if a number is not known."""
    if not all(n in items for n in names):
        return None
    return math.hypot(*(score_error(scores[n], items[n]) for n in names)) / len(names)


def compare_matched(a: str, b: str, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Json:
    """One entry of a comparison's `matched` block, not yet corrected for several comparisons.

    Args:
        a, b: the labels.
        pairs: summaries of runs of a and b with the same seed and task order.

    Returns:
        `method` is "interpolated", or "end points" if no stage of both has probes. With "end points", the losses are
        those at the end of each stage, unmatched, and `end_of_stage.new_task_gap` is the difference of new-task scores.
        Interpolated losses have `bounds`: the losses at the points around the match, and the range in which the
        difference lies, wherever the losses lie between these points.
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

    end = _losses(runs, "end_a", "end_b")
    new_a, new_b = _mean(_per_run(runs, "end_a.new_task")), _mean(_per_run(runs, "end_b.new_task"))
    gap = None if new_a is None or new_b is None else new_a - new_b
    used = [m for m in matches if m.matched_score is not None] if interpolated else matches
    return {
        "a": a,
        "b": b,
        "method": "interpolated" if interpolated else "end points",
        "matched_score": _mean(_per_run(runs, "matched_score")) if interpolated else None,
        "stages_used": len(used),
        "stages_skipped": len(matches) - len(used),
        "stages_too_wide": sum(m.too_wide for m in matches) if interpolated else 0,
        **(_matched_losses(runs, "") if interpolated else {**end, "bounds": None}),
        "within_stage": _matched_losses(runs, "within_") if interpolated else None,
        "end_of_stage": {**end, "new_task_a": new_a, "new_task_b": new_b, "new_task_gap": gap},
        "stages": [_stage_entry(stage, runs) for stage in sorted({s for run in runs for s in run})],
    }


def correct_family(entries: Sequence[Json]) -> None:
    """Add `p_holm` to every `p` of the matched entries. Each kind of loss is its own family."""
    within = [entry["within_stage"] for entry in entries if entry["within_stage"]]
    for family in (entries, within, [entry["end_of_stage"] for entry in entries]):
        for entry, p in zip(family, holm([entry["p"] for entry in family]), strict=True):
            entry["p_holm"] = p


def is_sign_open(entry: Mapping[str, Any]) -> bool:
    """Whether the sign of a matched difference depends on where its losses lie between the points around the match."""
    bounds = entry.get("bounds")
    return bounds is not None and bounds["difference"][0] <= 0 <= bounds["difference"][1]


_Runs = Sequence[Mapping[int, StageMatch]]


def _matched_losses(runs: _Runs, kind: Literal["", "within_"]) -> Json:
    """Losses at the match, compared over runs, with their bounds."""
    compared = _losses(runs, "a", "b", kind)
    if compared["difference"] is None:
        return {**compared, "bounds": None}
    ends_a, ends_b = (
        [value for end in ("below", "above") if (value := _mean(_per_run(runs, f"{side}.{kind}{end}"))) is not None]
        for side in ("a", "b")
    )
    difference = [min(ends_a) - max(ends_b), max(ends_a) - min(ends_b)]
    return {**compared, "bounds": {"a": ends_a, "b": ends_b, "difference": difference}}


def _losses(runs: _Runs, a: str, b: str, kind: Literal["", "within_"] = "") -> Json:
    """A loss of two sides of the matches, compared over runs. The noise of a run's difference is that of its errors."""
    left, right = (_per_run(runs, f"{side}.{kind}loss") for side in (a, b))
    compared = paired_difference(left, right, _noise(runs, (a, b), kind))
    return {"loss_a": _mean(left), "loss_b": _mean(right), **compared.as_json()}


def _noise(runs: _Runs, sides: tuple[str, str], kind: Literal["", "within_"]) -> float | None:
    """Standard deviation of one run's difference that the items alone account for; root mean square over runs.

    None if a number of items is not known.
    """
    squares: list[float] = []
    for run in runs:
        known = [m for m in run.values() if _number(m, f"{sides[0]}.{kind}loss") is not None]
        errors = [_number(m, f"{side}.{kind}error") for m in known for side in sides]
        if any(error is None for error in errors):
            return None
        if known:
            squares.append(math.fsum(error**2 for error in errors if error is not None) / len(known) ** 2)
    return math.sqrt(math.fsum(squares) / len(squares)) if squares else None


def _number(match: StageMatch, field: str) -> float | None:
    """A field of a match; "a.loss" is one of its first run. None if it is not defined."""
    value: Any = match
    for name in field.split("."):
        value = None if value is None else getattr(value, name)
    return value


def _per_run(runs: _Runs, field: str) -> list[float | None]:
    """A field's mean over each run's stages that define it."""
    return [mean(v for m in run.values() if (v := _number(m, field)) is not None) for run in runs]


_AT_MATCH = {"loss": "loss", "within": "within_loss", "gap": "gap"}
_AT_END = {"end_loss": "loss", "new_task": "new_task"}
_STAGE_FIELDS = {
    "matched_score": "matched_score",
    **{f"{name}_{side}": f"{side}.{field}" for name, field in _AT_MATCH.items() for side in ("a", "b")},
    **{f"{name}_{side}": f"end_{side}.{field}" for name, field in _AT_END.items() for side in ("a", "b")},
}
"""Fields of a stage's entry, and where they are in a match."""


def _stage_entry(stage: int, runs: _Runs) -> Json:
    """A stage's means over the runs that define a number. `n` counts the runs with a match."""
    here = [run[stage] for run in runs if stage in run]
    numbers = {
        name: mean(v for m in here if (v := _number(m, field)) is not None) for name, field in _STAGE_FIELDS.items()
    }
    counts = {"n": sum(m.matched_score is not None for m in here), "too_wide": sum(m.too_wide for m in here)}
    return {"stage": stage, **counts, **numbers}


def _mean(values: Sequence[float | None]) -> float | None:
    return mean(v for v in values if v is not None)
