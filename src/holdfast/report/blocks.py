"""What the page's tables and cards say, ready for the templates."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import fmean
from typing import Any

from markupsafe import Markup

from holdfast.measure.metrics import METRICS, metrics_by_group
from holdfast.report import drift
from holdfast.report.answers import answer_blocks
from holdfast.report.artifacts import artifact_blocks
from holdfast.report.drift import drift_blocks
from holdfast.report.numbers import (
    DASH,
    ShownEstimate,
    count,
    difference_text,
    interval_text,
    number,
    p_text,
    percent,
    seconds,
    value_text,
)
from holdfast.report.predicted import predicted
from holdfast.report.samples import samples
from holdfast.report.timeline import guard_blocks
from holdfast.report.view import ArmView, View

BUDGET_TITLES = {
    "optimizer_steps": "Steps",
    "prompts": "Prompts",
    "completions": "Completions",
    "generated_tokens": "Tokens generated",
    "trained_tokens": "Tokens trained on",
    "train": "Training time",
    "eval": "Evaluation time",
}


def all_blocks(view: View) -> dict[str, Any]:
    """Every block by the name that the templates know it by."""
    return {
        "created": _date(view.summary.get("created")),
        "facts": facts(view),
        "cards": cards(view),
        "metric_groups": metric_groups(view),
        "guard": guard_blocks(view),
        "drift": drift_blocks(view),
        "drift_columns": [title for _, title, _ in drift.COLUMNS],
        "responses": answer_blocks(view),
        "artifacts": artifact_blocks(view),
        "predicted": predicted(view),
        "samples": samples(view),
        "paired": paired(view),
        "matched": matched(view),
        "budget": budget(view),
        "provenance": provenance(view),
        "recipes": [(arm, *_settings(arm)) for arm in view.arms],
    }


def facts(view: View) -> list[tuple[str, list[str]]]:
    """What was compared: (term, parts of the text)."""
    first: Mapping[str, Any] = view.runs[0].summary if view.runs else {}
    model = first.get("model") or {}
    size = _size(model.get("parameters"))
    trainable = _size(model.get("trainable_parameters"))
    about = ", ".join(
        part
        for part in (
            f"{size} parameters" if size else "",
            f"{trainable} trained" if trainable and trainable != size else "",
            str(model.get("dtype") or ""),
        )
        if part
    )
    orders = [" → ".join(order) for order in view.orders]
    equal = view.shared_budget
    shared = [f"{count(equal[k])} {w}" for k, w in (("optimizer_steps", "steps"), ("prompts", "prompts")) if k in equal]
    shown = [
        ("Recipe" if len(view.arms) == 1 else "Recipes", [", ".join(arm.label for arm in view.arms)]),
        ("Stream" if len(orders) < 2 else "Streams", [" · ".join(orders)]),
        ("Runs", [_runs_text(view)]),
        ("Model", [f"{model.get('path', DASH)}" + (f" ({about})" if about else "")]),
        ("Budget per run", [", ".join(shared) + ("" if len(view.arms) == 1 else ", equal for all")] if shared else []),
    ]
    return [(term, text) for term, text in shown if text and text != [""]]


def cards(view: View) -> list[dict[str, Any]]:
    """The key numbers: a card per recipe, or, of a single run, a card per number."""
    if view.is_run:
        keys = ["final_score", "learning", "loss_of_earlier", "retention", "kl_to_base"]
        found = [(METRICS[key], view.arms[0].metrics.get(key, ShownEstimate(None))) for key in keys]
        return [
            {
                "arm": None,
                "title": metric.label,
                "badge": "",
                "value": value_text(value.mean, metric.kind),
                "unit": metric.unit,
                "what": "",
                "interval": "",
                "more": [],
            }
            for metric, value in found
            if value.mean is not None
        ]
    shown = []
    for arm in view.arms:
        final = arm.metrics.get("final_score", ShownEstimate(None))
        more = [
            (METRICS[key].label, f"{value_text(value.mean, METRICS[key].kind)} {METRICS[key].unit}", _ci(value, key))
            for key in ("loss_of_earlier", "learning", "kl_to_base")
            if (value := arm.metrics.get(key, ShownEstimate(None))).mean is not None
        ]
        if arm.stopped:
            more.append(("Ended by the guard", f"{arm.stopped} of {len(arm.runs)} runs", "in no number here"))
        shown.append(
            {
                "arm": arm,
                "title": arm.label,
                "badge": "On the Pareto front" if arm.on_front and len(view.arms) > 1 else "",
                "value": percent(final.mean),
                "unit": "%" if final.mean is not None else "",
                "what": "final score",
                "interval": _final_interval(final),
                "more": more,
            }
        )
    return shown


def _final_interval(final: ShownEstimate) -> str:
    if final.mean is None:
        return "(no complete run yet)"
    text = interval_text(final, "score")
    return text if final.ci95 else f"({text})"


def metric_groups(view: View) -> list[tuple[str, list[dict[str, Any]]]]:
    """The metrics table by group: per row a label, a unit, and (value, interval, is best) per recipe."""
    groups = []
    for group, members in metrics_by_group().items():
        rows = []
        for metric in members:
            values = [arm.metrics.get(metric.name, ShownEstimate(None)) for arm in view.arms]
            known = [value.mean for value in values if value.mean is not None]
            if not known:
                continue
            best = None
            if metric.higher_is_better is not None and len({value_text(x, metric.kind) for x in known}) > 1:
                best = value_text(max(known) if metric.higher_is_better else min(known), metric.kind)
            cells = [
                (
                    value_text(v.mean, metric.kind),
                    "" if view.single or v.mean is None else interval_text(v, metric.kind),
                    best is not None and value_text(v.mean, metric.kind) == best,
                )
                for v in values
            ]
            rows.append({"label": metric.label, "unit": metric.unit, "cells": cells, "meaning": metric.definition})
        if rows:
            groups.append((group, rows))
    form = _form_rows(view)
    return [*groups, ("Form of the answers to the tasks, at the end", form)] if form else groups


def _form_rows(view: View) -> list[dict[str, Any]]:
    """Well-formed, cut off, and length over the tasks after the last stage: what a score may hide."""
    titles = [
        ("format_ok", "Well-formed", "%", "Answers in the form that the task asks for, right or wrong."),
        ("truncated", "Cut off", "%", "Answers that ran into the limit of length, or of turns."),
        ("length", "Length", "tokens", "Mean length of an answer."),
    ]
    rows = []
    for field, label, of, meaning in titles:
        cells = []
        for arm in view.arms:
            values = []
            for run in arm.runs:
                last = run.evaluations[-1] if run.evaluations else {}
                tasks = run.summary.get("order") or []
                scores = [s for name, s in (last.get("scores") or {}).items() if name in tasks]
                values += [v for s in scores if (v := number(s.get(field))) is not None]
            mean = fmean(values) if values else None
            text = DASH if mean is None else f"{mean:.1f}" if field == "length" else percent(mean)
            cells.append((text, "", False))
        if any(text != DASH for text, *_ in cells):
            rows.append({"label": label, "unit": of, "cells": cells, "meaning": meaning})
    return rows


def paired(view: View) -> dict[str, Any]:
    """The paired differences: rows for every pair and metric, with an interval drawn on a scale shared per metric."""
    entries = [e for e in view.summary.get("paired") or [] if number(e.get("difference")) is not None]
    keys = [name for name in METRICS if any(e["metric"] == name for e in entries)]
    rows = []
    for key in keys:
        mine = [e for e in entries if e["metric"] == key]
        reach = _reach(mine)
        for e in mine:
            shown = _difference(e, key, reach)
            rows.append(
                {**shown, "metric": keys.index(key), "p": p_text(e.get("p")), "p_holm": p_text(e.get("p_holm"))}
            )
    chosen = keys.index("loss_of_earlier") if "loss_of_earlier" in keys else 0
    options = [(i, f"{METRICS[key].label} ({METRICS[key].unit})") for i, key in enumerate(keys)]
    return {"rows": rows, "options": options, "chosen": chosen}


def matched(view: View) -> dict[str, Any]:
    """Losses at a matched new-task score, in all and within the stage; without probes, at the ends of stages."""
    entries = [e for e in view.summary.get("matched") or [] if number(e.get("difference")) is not None]
    ended = [e for e in entries if e.get("method") != "interpolated"]
    groups: list[tuple[str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]]] = [
        ("Lost by then in all: from each task's score when learned, from the base's on suites",
         [(e, e) for e in entries if e not in ended]),
        ("Of that, lost within the stage",
         [(e, e["within_stage"]) for e in entries if e not in ended and e.get("within_stage")]),
        ("At the end of each stage, not matched (no probes)", [(e, e) for e in ended]),
    ]  # fmt: skip
    shown = []
    for title, members in groups:
        reach = _reach([loss for _, loss in members])
        rows = [
            {
                **_difference({**loss, "a": e["a"], "b": e["b"]}, "loss_of_earlier", reach),
                "score": percent(e.get("matched_score")),
                "loss_a": percent(loss.get("loss_a")),
                "loss_b": percent(loss.get("loss_b")),
                "p": p_text(loss.get("p_holm", loss.get("p"))),
            }
            for e, loss in members
            if number(loss.get("difference")) is not None
        ]
        if rows:
            shown.append((title, rows))
    lead = (
        "What had been lost of earlier tasks and retention suites, in points, at the moment when both recipes had "
        "first reached the same score on the stage's task; mean over stages."
    )
    if ended:
        lead += " Without probes within the stages there is no such moment, only the end of each stage."
    return {"rows": shown, "lead": lead}


def _difference(entry: Mapping[str, Any], key: str, reach: tuple[float, float]) -> dict[str, Any]:
    kind = METRICS[key].kind
    ci = entry.get("ci95")
    n = int(entry.get("n") or 0)
    lone = "1 pair: no interval" if n == 1 else "no interval"
    interval = f"[{difference_text(ci[0], kind)}, {difference_text(ci[1], kind)}]" if ci else lone
    return {
        "a": entry["a"],
        "b": entry["b"],
        "difference": difference_text(entry["difference"], kind),
        "interval": interval,
        "drawn": _drawn(entry, reach),
        "n": n,
    }


def _reach(entries: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The smallest range around zero that holds a group of intervals."""
    ends = [x for e in entries for x in (e.get("difference"), *(e.get("ci95") or ())) if number(x) is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    return (low, high) if high > low else (-1.0, 1.0)


def _drawn(entry: Mapping[str, Any], reach: tuple[float, float]) -> Markup:
    """A difference and its interval as a dot on a whisker, with a line at zero."""
    left, right = reach

    def at(value: float) -> str:
        return f"{4 + 92 * (value - left) / (right - left):.2f}%"

    difference, ci = entry["difference"], entry.get("ci95")
    low, high = ci or (difference, difference)
    p_holm = number(entry.get("p_holm"))
    clear = " clear" if ci and p_holm is not None and p_holm < 0.05 else ""
    return Markup('<span class="whisker{}" aria-hidden="true" style="--a:{};--b:{};--m:{};--z:{}"></span>').format(
        clear, at(low), at(high), at(difference), at(0.0)
    )


def budget(view: View) -> dict[str, Any]:
    """The budget table, and in words whether it was equal."""
    equal = view.shared_budget
    if len(view.arms) == 1:
        lead = "What this run used." if view.is_run else "Means per run."
    elif "optimizer_steps" in equal and "prompts" in equal:
        lead = (
            f"Means per run. All recipes made the same {count(equal['optimizer_steps'])} optimizer steps on the same "
            f"{count(equal['prompts'])} prompts; how much they sampled and how long it took is their own."
        )
    else:
        lead = "Means per run. The recipes did not all make the same number of steps on the same number of prompts."
    rows = [
        (arm, [seconds(v) if key in ("train", "eval") else count(v) for key, v in arm.budget.items()])
        for arm in view.arms
    ]
    return {"lead": lead, "headers": list(BUDGET_TITLES.values()), "rows": rows}


def provenance(view: View) -> list[tuple[str, str]]:
    """Where the numbers come from."""
    summary = view.summary
    models = {str((run.summary.get("model") or {}).get("path", DASH)) for run in view.runs}
    shown = [
        ("holdfast", str(summary.get("holdfast_version") or DASH)),
        ("Summary", f"schema version {summary.get('schema_version', DASH)}, {summary.get('kind', DASH)}"),
        ("Written", _date(summary.get("created")) or DASH),
        ("Status", view.status),
        ("Model", ", ".join(sorted(models)) or DASH),
        ("Seeds", ", ".join(str(seed) for seed in view.seeds) or DASH),
    ]
    folders = [str(run["path"]) for run in summary.get("runs") or [] if run.get("path")]
    return [*shown, ("Runs", ", ".join(folders))] if folders else shown


def _settings(arm: ArmView) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    if not arm.runs:
        return [], []
    summary = arm.runs[0].summary
    wiring = [(key.capitalize(), str(value)) for key, value in (summary.get("wiring") or {}).items()]
    recipe = summary.get("recipe") or {}
    return wiring, [(k, v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)) for k, v in recipe.items()]


def _runs_text(view: View) -> str:
    seeds = f"seed{'s' if len(view.seeds) != 1 else ''} {', '.join(str(seed) for seed in view.seeds)}"
    if view.is_run:
        return f"1, {seeds}"
    per_arm = f"{len(view.arms)} recipes × {len(view.seeds)} seeds × {len(view.orders)} task orders"
    text = per_arm if len(view.orders) > 1 else per_arm.rsplit(" × ", 1)[0]
    stopped = sum(arm.stopped for arm in view.arms)
    ended = f"; {stopped} of them ended by the guard" if stopped else ""
    return f"{len(view.runs)} ({text.replace('1 seeds', '1 seed').replace('1 recipes', '1 recipe')}; {seeds}){ended}"


def _ci(value: ShownEstimate, key: str) -> str:
    return interval_text(value, METRICS[key].kind) if value.ci95 is not None else ""


def _size(parameters: Any) -> str:
    x = number(parameters)
    if x is None:
        return ""
    for limit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if x >= limit:
            return f"{x / limit:.3g}{letter}"
    return f"{x:.0f}"


def _date(text: Any) -> str:
    try:
        return f"{datetime.fromisoformat(str(text)):%d %B %Y, %H:%M}".lstrip("0")
    except ValueError:
        return ""
