"""`summary.json` of a run and of a comparison, from plain inputs; its schema documents every field."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from holdfast.measure.forgetting import METRIC_NAMES, Json, compute_metrics, flatten_metrics, mean, score
from holdfast.measure.matched import compare_matched, correct_family
from holdfast.measure.prediction import forgetting_prediction, prediction_points
from holdfast.measure.statistics import holm, mean_interval, paired_difference
from holdfast.store.files import json_safe
from holdfast.summary.verdict import comparison_verdict, run_verdict

SCHEMA_VERSION = 1

MAX_CURVE_POINTS = 400

_SCORE_FIELDS = ("mean", "n", "ci95", "format_ok", "length", "truncated", "kl_to_base", "kl_to_base_se")

_CURVE_VALUES = (
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

_COUNTS = ("prompts", "completions", "generated_tokens", "trained_tokens")


def build_run_summary(
    *,
    name: str,
    label: str,
    holdfast_version: str,
    created: str,
    recipe: Mapping[str, Any],
    wiring: Mapping[str, str],
    seed: int,
    order: Sequence[str],
    model: Mapping[str, Any],
    status: str,
    sets: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Mapping[str, Any]],
    metrics: Sequence[Mapping[str, Any]],
    probes: Sequence[Mapping[str, Any]] = (),
    probe_items: int | None = None,
    drift: Sequence[Mapping[str, Any]] = (),
    responses: Sequence[Mapping[str, Any]] = (),
    artifacts: Sequence[Mapping[str, Any]] = (),
    repetition: Sequence[Mapping[str, Any]] = (),
    guard: Mapping[str, Any] | None = None,
    decisions: Sequence[Mapping[str, Any]] = (),
    discarded: Sequence[Mapping[str, Any]] = (),
    eval_seconds: float = 0.0,
) -> Json:
    """The summary of one run, finished or not.

    Args:
        recipe: name and every setting, as `dump_recipe` gives them; `wiring` as `Recipe.wiring()` does.
        order: task names in the order of the stages.
        sets: `name`, `kind`, `n`, `description` of everything evaluated.
        evaluations: contents of `evals/stage-<s>.json`, stage 0 to the last finished, in order. `items` (rewards by
            set) and `samples` (by set: `id`, `prompt`, `system`, `text`, `reward`) may be absent.
        metrics: records of `metrics.jsonl`; `step` counts from 1 within the stage.
        probes: records of `probes.jsonl`.
        probe_items: how many items, from the first on, a probe uses of each set. With it, the ends of a probed
            stage are scored on those same items, so that a trajectory never changes its test set half-way.
        drift: `drift_entry` of each stage. responses: `response_entries` of all.
        artifacts, repetition: `artifact_entries` and `repetition_entries` over the stages.
        guard: the guard's settings.
        decisions, discarded: records of `decisions.jsonl` and `discarded.jsonl`.
        eval_seconds: time spent on evaluations and probes.
    """
    scored = [{"stage": e["stage"], "task": e["task"], "scores": _scores(e["sets"])} for e in evaluations]
    offsets = _stage_offsets(metrics, len(order))
    undone = [line["record"] for line in discarded if line["log"] == "metrics.jsonl"]
    taken = [*metrics, *undone]
    eval_seconds += math.fsum(line["record"]["seconds"] for line in discarded if line["log"] == "probes.jsonl")
    summary: Json = {
        "schema_version": SCHEMA_VERSION,
        "kind": "run",
        "name": name,
        "label": label,
        "holdfast_version": holdfast_version,
        "created": created,
        "recipe": recipe,
        "wiring": wiring,
        "seed": seed,
        "order": order,
        "model": model,
        "status": status,
        "budget": {
            "optimizer_steps": max(offsets.values()) + len(undone),
            **{count: _total(record.get(count) for record in taken) for count in _COUNTS},
            "seconds": {"train": math.fsum(record["seconds"] for record in taken), "eval": eval_seconds},
        },
        "sets": sets,
        "evaluations": scored,
        "metrics": compute_metrics(scored, order, sets) if scored else None,
        "curves": thin_curves(metrics, offsets),
        "probes": _probes(probes, evaluations, scored, order, offsets, metrics, probe_items, drift),
        "drift": drift,
        "responses": responses,
        "artifacts": artifacts,
        "repetition": repetition,
        "forgetting_prediction": forgetting_prediction(
            prediction_points(scored, order, sets, label=label, seed=seed) if scored else ()
        ),
        "samples": _samples(evaluations, sets),
        "guard": guard,
        "decisions": [d | {"global_step": offsets.get(d["stage"], 0) + d["step"]} for d in map(dict, decisions)],
        "discarded": _discarded(discarded, offsets),
        "verdict": [],
    }
    summary = json_safe(summary)
    summary["verdict"] = run_verdict(summary)
    return summary


def build_comparison_summary(
    *,
    name: str,
    holdfast_version: str,
    created: str,
    status: str,
    labels: Sequence[str],
    seeds: Sequence[int],
    orders: Sequence[Sequence[str]],
    runs: Sequence[Mapping[str, Any]],
) -> Json:
    """The summary of recipes × seeds × task orders.

    Args:
        labels: one per recipe, in the order of the configuration.
        runs: those there are by now: `label`, `seed`, `order_index`, `path`, and the run's whole `summary`. Only runs
            whose `status` is "complete" enter the statistics; those that were "stopped" are counted beside them.
    """
    stopped = Counter(r["label"] for r in runs if r["summary"]["status"] == "stopped")
    done = {
        (r["label"], r["seed"], r["order_index"]): r["summary"] for r in runs if r["summary"]["status"] == "complete"
    }
    cells = [(seed, i) for seed in seeds for i in range(len(orders))]
    metrics = {key: flatten_metrics(s["metrics"]) for key, s in done.items() if s["metrics"]}
    recipes = [
        _recipe_entry(label, [done[k] for c in cells if (k := (label, *c)) in done], stopped[label]) for label in labels
    ]
    paired: list[Json] = []
    for metric in METRIC_NAMES:
        family: list[Json] = []
        for a, b in combinations(labels, 2):
            shared = [c for c in cells if (a, *c) in metrics and (b, *c) in metrics]
            sides = [[metrics[(label, *c)][metric] for c in shared] for label in (a, b)]
            family.append({"a": a, "b": b, "metric": metric, **paired_difference(*sides).as_json()})
        for entry, p in zip(family, holm([entry["p"] for entry in family]), strict=True):
            entry["p_holm"] = p
        paired += family
    matched = [
        compare_matched(a, b, [(done[(a, *c)], done[(b, *c)]) for c in cells if (a, *c) in done and (b, *c) in done])
        for a, b in combinations(labels, 2)
    ]
    correct_family(matched)
    points = {r["label"]: [r["metrics"][m]["mean"] for m in ("final_score", "loss_of_earlier")] for r in recipes}
    measured = [
        point | {"label": label, "order_index": index}
        for (label, _, index), s in done.items()
        for point in s.get("forgetting_prediction", {}).get("points", ())
    ]
    summary: Json = {
        "schema_version": SCHEMA_VERSION,
        "kind": "comparison",
        "name": name,
        "holdfast_version": holdfast_version,
        "created": created,
        "status": status,
        "labels": labels,
        "seeds": seeds,
        "orders": orders,
        "tasks": orders[0],
        "sets": runs[0]["summary"]["sets"] if runs else [],
        "runs": runs,
        "recipes": recipes,
        "paired": paired,
        "matched": matched,
        "pareto": pareto_front({label: (x, y) for label, (x, y) in points.items() if x is not None and y is not None}),
        "forgetting_prediction": forgetting_prediction(measured, last_stage=len(orders[0])),
        "verdict": [],
    }
    summary = json_safe(summary)
    summary["verdict"] = comparison_verdict(summary)
    return summary


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Labels that no other beats, given (score, higher is better; loss, lower is better). Equals stand together."""

    def beats(other: tuple[float, float], this: tuple[float, float]) -> bool:
        return other[0] >= this[0] and other[1] <= this[1] and other != this

    return [label for label, this in points.items() if not any(beats(other, this) for other in points.values())]


def thin_curves(metrics: Sequence[Mapping[str, Any]], offsets: Mapping[int, int]) -> list[Json]:
    """Training curves of at most `MAX_CURVE_POINTS` points (plus one per stage beyond that many stages).

    A point stands for consecutive steps of one stage: the mean of each value where it is defined, under the last
    step's number. Averaging keeps a spike visible where taking every k-th step might miss it.
    """
    stages: dict[int, list[Mapping[str, Any]]] = {}
    for record in metrics:
        stages.setdefault(record["stage"], []).append(record)
    width = (
        max(1, math.ceil(len(metrics) / max(1, MAX_CURVE_POINTS - len(stages))))
        if len(metrics) > MAX_CURVE_POINTS
        else 1
    )
    points: list[Json] = []
    for stage, records in stages.items():
        for start in range(0, len(records), width):
            group = records[start : start + width]
            step = group[-1]["step"]
            point = {"stage": stage, "step": step, "global_step": offsets[stage] + step, "task": group[-1]["task"]}
            points.append(point | {key: _defined_mean(record.get(key) for record in group) for key in _CURVE_VALUES})
    return points


def _discarded(lines: Sequence[Mapping[str, Any]], offsets: Mapping[int, int]) -> list[Json]:
    """The steps that each roll-back undid, with their curve."""
    undone: dict[int, list[Mapping[str, Any]]] = {}
    for line in lines:
        if line["log"] == "metrics.jsonl":
            undone.setdefault(line["decision"], []).append(line["record"])
    return [
        {
            "stage": records[0]["stage"],
            "from_step": records[0]["step"],
            "to_step": records[-1]["step"],
            "decision": decision,
            "curve": thin_curves(records, offsets),
        }
        for decision, records in undone.items()
    ]


def _recipe_entry(label: str, summaries: Sequence[Mapping[str, Any]], stopped: int) -> Json:
    flat = [flatten_metrics(s["metrics"]) for s in summaries if s["metrics"]]
    budgets = [s["budget"] for s in summaries]
    budget: Json = {key: mean(b[key] for b in budgets) for key in ("optimizer_steps", *_COUNTS)}
    budget["seconds"] = {key: mean(b["seconds"][key] for b in budgets) for key in ("train", "eval")}
    return {
        "label": label,
        "name": summaries[0]["recipe"]["name"] if summaries else None,
        "runs": len(summaries),
        "stopped": stopped,
        "metrics": {metric: mean_interval([f[metric] for f in flat]).as_json() for metric in METRIC_NAMES},
        "budget": budget,
    }


def _scores(sets: Mapping[str, Mapping[str, Any]]) -> Json:
    return {name: {field: values.get(field) for field in _SCORE_FIELDS} for name, values in sets.items()}


def _stage_offsets(metrics: Iterable[Mapping[str, Any]], stages: int) -> dict[int, int]:
    """Optimizer steps made before each stage, also of the stage that would come next."""
    lengths: dict[int, int] = {}
    for record in metrics:
        lengths[record["stage"]] = max(lengths.get(record["stage"], 0), record["step"])
    offsets = {1: 0}
    for stage in range(1, stages + 1):
        offsets[stage + 1] = offsets[stage] + lengths.get(stage, 0)
    return offsets


def _probes(
    probes: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Mapping[str, Any]],
    scored: Sequence[Mapping[str, Any]],
    order: Sequence[str],
    offsets: Mapping[int, int],
    metrics: Sequence[Mapping[str, Any]],
    probe_items: int | None,
    drift: Sequence[Mapping[str, Any]],
) -> list[Json]:
    """All probes in order, each probed stage closed by its two ends, taken from the evaluations around it."""
    by_key: dict[tuple[int, int], Json] = {}
    for p in probes:
        measured = {key: p.get(key) for key in ("kl_to_base", "relative_norm")}
        by_key[p["stage"], p["step"]] = {"task": p["task"], "scores": p["scores"], **measured}
    norms = {0: 0.0} | {entry["stage"]: entry["overall"]["relative_norm"] for entry in drift}
    for stage in sorted({stage for stage, _ in by_key}):
        names = {name for (s, _), p in by_key.items() if s == stage for name in p["scores"]}
        last = max((m["step"] for m in metrics if m["stage"] == stage), default=0)
        for index, step in ((stage - 1, 0), (stage, last)):
            if index < len(evaluations):
                ends = _first_items(evaluations[index], scored[index], probe_items)
                kl = _defined_mean(score(scored[index], task, "kl_to_base") for task in order)
                at_end = {name: value for name, value in ends.items() if name in names}
                end = {"task": order[stage - 1], "scores": at_end, "kl_to_base": kl, "relative_norm": norms.get(index)}
                by_key.setdefault((stage, step), end)
    return [
        {"stage": stage, "step": step, "global_step": offsets.get(stage, 0) + step, **by_key[stage, step]}
        for stage, step in sorted(by_key)
    ]


def _first_items(evaluation: Mapping[str, Any], scored: Mapping[str, Any], probe_items: int | None) -> dict[str, float]:
    items = evaluation.get("items") or {}
    whole = {name: s["mean"] for name, s in scored["scores"].items()}
    part = {name: math.fsum(first) / len(first) for name in items if (first := items[name][:probe_items])}
    return {**whole, **part} if probe_items else whole


def _samples(evaluations: Sequence[Mapping[str, Any]], sets: Sequence[Mapping[str, Any]]) -> list[Json]:
    """The kept completions, one entry per example, its completions in the order of the stages."""
    found: dict[tuple[str, str], Json] = {}
    kinds = {s["name"]: s["kind"] for s in sets}
    for evaluation in evaluations:
        for name, samples in (evaluation.get("samples") or {}).items():
            for s in samples:
                entry = {
                    "set": name,
                    "kind": kinds[name],
                    "id": s["id"],
                    "prompt": s["prompt"],
                    "system": s.get("system"),
                }
                entry = found.setdefault((name, s["id"]), {**entry, "completions": []})
                entry["completions"].append({"stage": evaluation["stage"], "text": s["text"], "reward": s["reward"]})
    return [found[key] for s in sets for key in found if key[0] == s["name"]]


def _total(values: Iterable[float | None]) -> float | None:
    """The sum, or None where one of them is not known."""
    known = list(values)
    return None if None in known else sum(v for v in known if v is not None)


def _defined_mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is a number: None and NaN are left out."""
    return mean(v for v in values if v is not None and math.isfinite(v))
