"""Training curves of a summary: one point per optimizer step, or means over several steps of a long run."""

import math
from collections.abc import Iterable, Mapping, Sequence

from holdfast.measure.scores import Json, mean
from holdfast.summary.inputs import JsonRecord

MAX_CURVE_POINTS = 400

CURVE_VALUES = (
    "loss",
    "reward",
    "completion_length",
    "seconds",
    "entropy",
    "kl_teacher",
    "teacher_divergence",
    "repetition",
    "truncated_fraction",
    "distinct_2",
    "grad_norm",
    "active_rows",
    "teacher_share",
    "is_ratio_mean",
    "kl_base",
)
"""What a point has, beyond its place; see `CurvePoint`."""


def stage_offsets(metrics: Iterable[JsonRecord], stages: int) -> dict[int, int]:
    """Number of optimizer steps before each stage, from 1 to `stages` + 1."""
    lengths: dict[int, int] = {}
    for record in metrics:
        lengths[record["stage"]] = max(lengths.get(record["stage"], 0), record["step"])
    offsets = {1: 0}
    for stage in range(1, stages + 1):
        offsets[stage + 1] = offsets[stage] + lengths.get(stage, 0)
    return offsets


def thin_curves(metrics: Sequence[JsonRecord], offsets: Mapping[int, int]) -> list[Json]:
    """Training curves of at most `MAX_CURVE_POINTS` points (plus one per stage beyond that many stages).

    A point is the mean of each value over consecutive steps of one stage. Undefined values are left out of the mean.
    The point has the number of its last step.
    """
    stages: dict[int, list[JsonRecord]] = {}
    for record in metrics:
        stages.setdefault(record["stage"], []).append(record)
    # Means, not every k-th step: a spike stays visible.
    width = 1
    if len(metrics) > MAX_CURVE_POINTS:
        # Each stage may end with a group that is not full, so that many points are reserved.
        width = max(1, math.ceil(len(metrics) / max(1, MAX_CURVE_POINTS - len(stages))))
    points: list[Json] = []
    for stage, records in stages.items():
        for start in range(0, len(records), width):
            group = records[start : start + width]
            step = group[-1]["step"]
            point = {"stage": stage, "step": step, "global_step": offsets[stage] + step, "task": group[-1]["task"]}
            points.append(point | {key: defined_mean(record.get(key) for record in group) for key in CURVE_VALUES})
    return points


def discarded_curves(discarded: Sequence[JsonRecord], offsets: Mapping[int, int]) -> list[Json]:
    """The steps that each roll-back discarded, with their curve.

    Args:
        discarded: lines of `discarded.jsonl`.
    """
    by_decision: dict[int, list[JsonRecord]] = {}
    for line in discarded:
        if line["log"] == "metrics.jsonl":
            by_decision.setdefault(line["decision"], []).append(line["record"])
    return [
        {
            "stage": records[0]["stage"],
            "from_step": records[0]["step"],
            "to_step": records[-1]["step"],
            "decision": decision,
            "curve": thin_curves(records, offsets),
        }
        for decision, records in by_decision.items()
    ]


def defined_mean(values: Iterable[float | None]) -> float | None:
    """The mean of the finite numbers. None and NaN are left out; None if nothing is left."""
    return mean(v for v in values if v is not None and math.isfinite(v))
