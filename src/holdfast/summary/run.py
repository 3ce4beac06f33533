"""The summary of one run, from plain records."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from holdfast.measure.likelihood import forced_answers, set_nll
from holdfast.measure.metrics import compute_metrics
from holdfast.measure.prediction import forgetting_prediction, prediction_points
from holdfast.measure.scores import Json, score, scores_of
from holdfast.store.files import json_safe
from holdfast.summary.curves import defined_mean, discarded_curves, stage_offsets, thin_curves
from holdfast.summary.guard_rules import guard_rules
from holdfast.summary.inputs import JsonRecord, Measured, RunDescription, RunLogs
from holdfast.summary.judging import failed_judgments
from holdfast.summary.likelihood import nll_changes, probability_changes
from holdfast.summary.run_verdict import run_verdict
from holdfast.summary.score_changes import score_changes
from holdfast.summary.version import SCHEMA_VERSION

_PROBED = ("scores", "nll", "probability")
"""What a probe measures by set."""

COUNTS = ("prompts", "completions", "generated_tokens", "trained_tokens")
"""What a budget counts in addition to optimizer steps and seconds."""

_SCORE_FIELDS = (
    *("mean", "n", "ci95", "format_ok", "length", "truncated"),
    *("nll", "nll_se", "forced", "calibration", "sampled", "most_frequent"),
    *("kl_to_base", "kl_to_base_se", "kl_on_demonstrations", "kl_on_demonstrations_se"),
)


def build_run_summary(run: RunDescription, logs: RunLogs, measured: Measured) -> Json:
    """The `summary.json` of one run, finished or not. `holdfast.summary.models.run` describes every field."""
    logs, measured = _without_exact_match(logs, measured)
    evaluations = [{"stage": e["stage"], "task": e["task"], "scores": _scores(e["sets"])} for e in measured.evaluations]
    offsets = stage_offsets(logs.metrics, len(run.order))
    summary: Json = {
        "schema_version": SCHEMA_VERSION,
        "kind": "run",
        "name": run.name,
        "label": run.label,
        "holdfast_version": run.holdfast_version,
        "created": run.created,
        "recipe": run.recipe,
        "wiring": run.wiring,
        "seed": run.seed,
        "order": run.order,
        "model": run.model,
        "status": run.status,
        "budget": _budget(logs, max(offsets.values()), measured.eval_seconds),
        "sets": run.sets,
        "evaluations": evaluations,
        "score_changes": score_changes(
            evaluations, run.order, run.sets, [e.get("items") or {} for e in measured.evaluations]
        ),
        "nll_changes": nll_changes(measured.evaluations, run.order, run.sets),
        "probability_changes": probability_changes(measured.evaluations, run.order, run.sets),
        "metrics": compute_metrics(evaluations, run.order, run.sets) if evaluations else None,
        "curves": thin_curves(logs.metrics, offsets),
        "probe_items": measured.probe_items,
        "probes": _probes(run.order, logs, measured, evaluations, offsets),
        "drift": measured.drift,
        "responses": measured.responses,
        "artifacts": measured.artifacts,
        "repetition": measured.repetition,
        "forgetting_prediction": predicted_forgetting(evaluations, run.order, run.sets, label=run.label, seed=run.seed),
        "demonstrations": measured.evaluations[0].get("demonstrations") or [] if measured.evaluations else [],
        "rewriting": logs.rewriting,
        "samples": _samples(measured.evaluations, run.sets),
        "guard": run.guard,
        "guard_rules": guard_rules(run.guard, logs, evaluations, run.sets, measured.asked_of_answers),
        "decisions": [
            {**decision, "global_step": offsets.get(decision["stage"], 0) + decision["step"]}
            for decision in logs.decisions
        ],
        "discarded": discarded_curves(logs.discarded, offsets),
        "failed_judgments": failed_judgments(logs, measured),
        "verdict": [],
    }
    summary = json_safe(summary)
    summary["verdict"] = run_verdict(summary)
    return summary


def _without_exact_match(logs: RunLogs, measured: Measured) -> tuple[RunLogs, Measured]:
    """The records of a run that a version before 3 of the summary began, and a later one took up.

    Earlier versions scored sets of demonstrations by exact match. A set that nothing judges in a later evaluation had
    no score in the earlier ones either.
    """
    unjudged = {name for e in measured.evaluations for name, own in e["sets"].items() if own["mean"] is None}
    if not any(own["mean"] is not None for e in measured.evaluations for n, own in e["sets"].items() if n in unjudged):
        return logs, measured
    no_score = dict.fromkeys(("mean", "ci95", "reward", "format_ok"))
    evaluations = [
        {
            **e,
            "sets": {name: {**own, **no_score} if name in unjudged else own for name, own in e["sets"].items()},
            "items": {name: own for name, own in (e.get("items") or {}).items() if name not in unjudged},
            "samples": {
                name: [{**each, "reward": None} for each in own] if name in unjudged else own
                for name, own in (e.get("samples") or {}).items()
            },
        }
        for e in measured.evaluations
    ]
    probes = [{**p, "scores": {n: v for n, v in p["scores"].items() if n not in unjudged}} for p in logs.probes]
    return replace(logs, probes=probes), replace(measured, evaluations=evaluations)


def predicted_forgetting(
    evaluations: Sequence[JsonRecord], order: Sequence[str], sets: Sequence[JsonRecord], *, label: str, seed: int
) -> Json:
    """The `forgetting_prediction` of a run: points only, because one run has no fit."""
    points = prediction_points(evaluations, order, sets, label=label, seed=seed) if evaluations else ()
    return forgetting_prediction(points)


def _scores(sets: Mapping[str, JsonRecord]) -> Json:
    return {name: {field: values.get(field) for field in _SCORE_FIELDS} for name, values in sets.items()}


def _budget(logs: RunLogs, steps: int, eval_seconds: float) -> Json:
    """What the training took. Discarded steps and probes count, because they were computed, and so does rewriting."""
    discarded = [line["record"] for line in logs.discarded if line["log"] == "metrics.jsonl"]
    probed = math.fsum(line["record"]["seconds"] for line in logs.discarded if line["log"] == "probes.jsonl")
    taken = [*logs.metrics, *discarded]
    # It takes no prompts of a step, and trains on nothing.
    taken += [{"prompts": 0, "trained_tokens": 0, **each} for each in logs.rewriting]
    return {
        "optimizer_steps": steps + len(discarded),
        **{count: _total(record.get(count) for record in taken) for count in COUNTS},
        "seconds": {"train": math.fsum(record["seconds"] for record in taken), "eval": eval_seconds + probed},
    }


def _probes(
    order: Sequence[str],
    logs: RunLogs,
    measured: Measured,
    evaluations: Sequence[JsonRecord],
    offsets: Mapping[int, int],
) -> list[Json]:
    """All probes in order. A probed stage also gets its two ends, from the evaluations around it."""
    by_key: dict[tuple[int, int], Json] = {}
    for p in logs.probes:
        distances = {key: p.get(key) for key in ("kl_to_base", "relative_norm")}
        measures = {"task": p["task"], "scores": p["scores"], "nll": p.get("nll", {})}
        measures |= {"probability": p.get("probability", {})}
        by_key[p["stage"], p["step"]] = measures | distances
    norms = {0: 0.0} | {entry["stage"]: entry["overall"]["relative_norm"] for entry in measured.drift}
    for stage in sorted({stage for stage, _ in by_key}):
        here = [p for (s, _), p in by_key.items() if s == stage]
        names = {key: {name for p in here for name in p[key]} for key in _PROBED}
        last = max((m["step"] for m in logs.metrics if m["stage"] == stage), default=0)
        for index, step in ((stage - 1, 0), (stage, last)):
            if index < len(evaluations):
                ends = _first_items(measured.evaluations[index], evaluations[index], measured.probe_items)
                end = {
                    "task": order[stage - 1],
                    **{key: {n: v for n, v in ends[key].items() if n in names[key]} for key in names},
                    "kl_to_base": defined_mean(score(evaluations[index], task, "kl_to_base") for task in order),
                    "relative_norm": norms.get(index),
                }
                by_key.setdefault((stage, step), end)  # a probe at the last step stays as it was measured
    return [
        {"stage": stage, "step": step, "global_step": offsets.get(stage, 0) + step, **by_key[stage, step]}
        for stage, step in sorted(by_key)
    ]


def _first_items(kept: JsonRecord, evaluation: JsonRecord, probe_items: int | None) -> dict[str, dict[str, float]]:
    """What a probe measures by set, over the items that it uses. Over all items if single items were not kept."""
    scores, nll = scores_of(evaluation), scores_of(evaluation, "nll")
    forced = {name: own["forced"] for name, own in evaluation["scores"].items() if own.get("forced")}
    if probe_items:
        items = kept.get("items") or {}
        scores |= {name: math.fsum(own) / len(own) for name in items if (own := items[name][:probe_items])}
        of_items = {name: set_nll(own[:probe_items]) for name, own in (kept.get("nll") or {}).items()}
        nll |= {name: value.mean for name, value in of_items.items() if value is not None}
        first = {name: forced_answers(own[:probe_items]) for name, own in (kept.get("forced") or {}).items()}
        forced |= {name: value for name, value in first.items() if value is not None}
    probability = {name: value["probability"] for name, value in forced.items()}
    return {"scores": scores, "nll": nll, "probability": probability}


def _samples(evaluations: Sequence[JsonRecord], sets: Sequence[JsonRecord]) -> list[Json]:
    """The kept completions: one entry per example, its completions in the order of the stages."""
    by_example: dict[tuple[str, str], Json] = {}
    kinds = {s["name"]: s["kind"] for s in sets}
    for evaluation in evaluations:
        for name, samples in (evaluation.get("samples") or {}).items():
            for s in samples:
                entry = by_example.setdefault(
                    (name, s["id"]),
                    {
                        "set": name,
                        "kind": kinds[name],
                        "id": s["id"],
                        "prompt": s["prompt"],
                        "system": s.get("system"),
                        "completions": [],
                    },
                )
                entry["completions"].append({"stage": evaluation["stage"], "text": s["text"], "reward": s["reward"]})
    return [by_example[key] for s in sets for key in by_example if key[0] == s["name"]]


def _total(values: Iterable[float | None]) -> float | None:
    """The sum. None if a value is not known."""
    known = list(values)
    return None if None in known else sum(v for v in known if v is not None)
