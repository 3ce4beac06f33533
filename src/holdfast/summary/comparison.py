"""The summary of a comparison, from the summaries of its runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from holdfast.measure.item_noise import metric_noise
from holdfast.measure.matched import compare_matched, correct_family
from holdfast.measure.metrics import METRICS, flatten_metrics
from holdfast.measure.prediction import forgetting_prediction
from holdfast.measure.scores import Json, mean
from holdfast.measure.statistics import holm, mean_interval, paired_difference
from holdfast.store.files import json_safe
from holdfast.summary.inputs import ComparisonDescription, JsonRecord
from holdfast.summary.run import COUNTS
from holdfast.summary.untrained import untrained_arm
from holdfast.summary.verdict import comparison_verdict
from holdfast.summary.version import SCHEMA_VERSION

RunKey = tuple[int, int]
"""Seed and index of the task order."""

Done = Mapping[str, Mapping[RunKey, JsonRecord]]
"""Summaries of the complete runs, by label and key."""


def build_comparison_summary(comparison: ComparisonDescription, runs: Sequence[JsonRecord]) -> Json:
    """The `summary.json` of recipes × seeds × task orders. `holdfast.summary.models.comparison` describes every field.

    Args:
        runs: all runs so far: `label`, `seed`, `order_index`, `path`, and the run's whole `summary`. Statistics use
            only runs with the `status` "complete". Runs that were "stopped" are counted separately.
    """
    labels, orders = comparison.labels, comparison.orders
    stopped = Counter(r["label"] for r in runs if r["summary"]["status"] == "stopped")
    keys = [(seed, i) for seed in comparison.seeds for i in range(len(orders))]
    complete = {
        (r["label"], (r["seed"], r["order_index"])): r["summary"] for r in runs if r["summary"]["status"] == "complete"
    }
    done = {label: {key: complete[label, key] for key in keys if (label, key) in complete} for label in labels}
    recipes = [_recipe(label, list(done[label].values()), stopped[label]) for label in labels]
    summary: Json = {
        "schema_version": SCHEMA_VERSION,
        "kind": "comparison",
        "name": comparison.name,
        "holdfast_version": comparison.holdfast_version,
        "created": comparison.created,
        "status": comparison.status,
        "labels": labels,
        "seeds": comparison.seeds,
        "orders": orders,
        "tasks": orders[0],
        "sets": runs[0]["summary"]["sets"] if runs else [],
        "runs": runs,
        "recipes": recipes,
        "untrained": untrained_arm(run["summary"] for run in runs),
        "paired": _paired(done, keys),
        "matched": _matched(done, keys),
        "pareto": _front_of(recipes),
        "forgetting_prediction": _prediction(complete, last_stage=len(orders[0])),
        "verdict": [],
    }
    summary = json_safe(summary)
    summary["verdict"] = comparison_verdict(summary)
    return summary


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Labels that no other label beats on both numbers. Equal points are both on the front.

    Args:
        points: a score, of which higher is better, and a loss, of which lower is better.
    """

    def beats(other: tuple[float, float], this: tuple[float, float]) -> bool:
        return other[0] >= this[0] and other[1] <= this[1] and other != this

    return [label for label, this in points.items() if not any(beats(other, this) for other in points.values())]


def _recipe(label: str, summaries: Sequence[JsonRecord], stopped: int) -> Json:
    """One recipe over its complete runs."""
    flat = [flatten_metrics(s["metrics"]) for s in summaries if s["metrics"]]
    budgets = [s["budget"] for s in summaries]
    budget: Json = {key: mean(b[key] for b in budgets) for key in ("optimizer_steps", *COUNTS)}
    budget["seconds"] = {key: mean(b["seconds"][key] for b in budgets) for key in ("train", "eval")}
    return {
        "label": label,
        "name": summaries[0]["recipe"]["name"] if summaries else None,
        "runs": len(summaries),
        "stopped": stopped,
        "metrics": {name: mean_interval([f[name] for f in flat]).as_json() for name in METRICS},
        "budget": budget,
    }


def _paired(done: Done, keys: Sequence[RunKey]) -> list[Json]:
    """Every metric for every pair of recipes. Holm's correction is over the pairs compared on one metric."""
    metrics = {
        label: {key: flatten_metrics(s["metrics"]) for key, s in runs.items() if s["metrics"]}
        for label, runs in done.items()
    }
    paired: list[Json] = []
    for name in METRICS:
        family: list[Json] = []
        for a, b in combinations(done, 2):
            shared = [key for key in keys if key in metrics[a] and key in metrics[b]]
            left, right = ([metrics[label][key][name] for key in shared] for label in (a, b))
            noise = metric_noise(name, [(done[a][key], done[b][key]) for key in shared])
            family.append({"a": a, "b": b, "metric": name, **paired_difference(left, right, noise).as_json()})
        for entry, p in zip(family, holm([entry["p"] for entry in family]), strict=True):
            entry["p_holm"] = p
        paired += family
    return paired


def _matched(done: Done, keys: Sequence[RunKey]) -> list[Json]:
    """Every pair of recipes at a matched new-task score."""
    matched = [
        compare_matched(a, b, [(done[a][key], done[b][key]) for key in keys if key in done[a] and key in done[b]])
        for a, b in combinations(done, 2)
    ]
    correct_family(matched)
    return matched


def _front_of(recipes: Sequence[JsonRecord]) -> list[str]:
    """The Pareto front by the recipes' means. A recipe without either number is not on it."""
    means = {r["label"]: [r["metrics"][m]["mean"] for m in ("final_score", "loss_of_earlier")] for r in recipes}
    return pareto_front({label: (x, y) for label, (x, y) in means.items() if x is not None and y is not None})


def _prediction(complete: Mapping[tuple[str, RunKey], JsonRecord], last_stage: int) -> Json:
    """The points of all complete runs, and the line through those of the last stage."""
    points = [
        point | {"label": label, "order_index": index}
        for (label, (_, index)), summary in complete.items()
        for point in summary["forgetting_prediction"]["points"]
    ]
    return forgetting_prediction(points, last_stage=last_stage)
