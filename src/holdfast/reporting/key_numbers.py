"""The cards and the metric table: the key numbers of each recipe."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from holdfast.measure.metrics import METRICS, Metric, metrics_by_group
from holdfast.reporting.number_format import (
    DASH,
    ShownEstimate,
    interval_text,
    number,
    percent,
    value_text,
)
from holdfast.reporting.view import SummaryView

RUN_CARDS = ("final_score", "learning", "loss_of_earlier", "retention", "kl_to_base")
"""Metrics that a single run has a card for."""

UNJUDGED_CARDS = ("nll", "nll_learning", "nll_forgetting")
"""Metrics that come first if no task has a score."""

RECIPE_CARD = ("loss_of_earlier", "learning", "kl_to_base")
"""Metrics that a recipe's card lists below its final score."""


def cards(view: SummaryView) -> list[dict[str, Any]]:
    """The key numbers: a card per recipe; of a single run, a card per metric."""
    return _cards_of_run(view) if view.is_run else _cards_of_recipes(view)


def _cards_of_run(view: SummaryView) -> list[dict[str, Any]]:
    scored = view.recipes[0].metrics.get("final_score", ShownEstimate(None)).mean is not None
    keys = RUN_CARDS if scored else (*UNJUDGED_CARDS, *RUN_CARDS)
    values = [(METRICS[key], view.recipes[0].metrics.get(key, ShownEstimate(None))) for key in keys]
    return [
        {
            "recipe": None,
            "title": metric.label,
            "badge": "",
            "value": value_text(value.mean, metric.kind),
            "unit": metric.unit,
            "what": "",
            "interval": "",
            "more": [],
        }
        for metric, value in values
        if value.mean is not None
    ]


def _cards_of_recipes(view: SummaryView) -> list[dict[str, Any]]:
    shown = []
    for recipe in view.recipes:
        final = recipe.metrics.get("final_score", ShownEstimate(None))
        by_nll = final.mean is None and recipe.metrics.get("nll", final).mean is not None
        shown_metric = METRICS["nll" if by_nll else "final_score"]
        final = recipe.metrics.get(shown_metric.name, final)
        more = [
            (METRICS[key].label, f"{value_text(value.mean, METRICS[key].kind)} {METRICS[key].unit}", _ci(value, key))
            for key in (UNJUDGED_CARDS[1:] + RECIPE_CARD if by_nll else RECIPE_CARD)
            if (value := recipe.metrics.get(key, ShownEstimate(None))).mean is not None
        ]
        if recipe.stopped:
            stopped = f"{recipe.stopped} of {len(recipe.runs)} runs"
            more.append(("Ended early by the guard", stopped, "not in any number here"))
        shown.append(
            {
                "recipe": recipe,
                "title": recipe.label,
                "badge": "On the Pareto front" if recipe.on_front and len(view.recipes) > 1 else "",
                "value": value_text(final.mean, shown_metric.kind),
                "unit": shown_metric.unit if final.mean is not None else "",
                "what": shown_metric.label if by_nll else "final score",
                "interval": _final_interval(final, shown_metric),
                "more": more,
            }
        )
    return shown


def _final_interval(final: ShownEstimate, metric: Metric) -> str:
    if final.mean is None:
        return "(no complete run yet)"
    text = interval_text(final, metric.kind)
    return text if final.ci95 else f"({text})"


def _ci(value: ShownEstimate, key: str) -> str:
    return interval_text(value, METRICS[key].kind) if value.ci95 is not None else ""


def metric_groups(view: SummaryView) -> list[tuple[str, list[dict[str, Any]]]]:
    """The metric table by group: per row a label, a unit, and (value, 95% CI, is best) per recipe.

    A comparison has one more cell: the untrained base, which is never the best.
    """
    groups = []
    for group, members in metrics_by_group().items():
        rows = []
        for metric in members:
            values = [recipe.metrics.get(metric.name, ShownEstimate(None)) for recipe in view.recipes]
            known = [value.mean for value in values if value.mean is not None]
            if not known:
                continue
            best = None
            # Compared as text: means that round to the same number are equally good to the reader.
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
            if view.untrained:
                base = view.untrained.get(metric.name, ShownEstimate(None))
                cells.append((value_text(base.mean, metric.kind), "", False))
            rows.append({"label": metric.label, "unit": metric.unit, "cells": cells, "meaning": metric.definition})
        if rows:
            groups.append((group, rows))
    form = _format_rows(view)
    return [*groups, ("Answers to the tasks, at the end", form)] if form else groups


def _format_rows(view: SummaryView) -> list[dict[str, Any]]:
    """Well-formed, truncated and length over the tasks after the last stage; a good score can hide all three."""
    titles = [
        ("format_ok", "Well-formed", "%", "Share of answers in the format that the task asks for, right or wrong."),
        ("truncated", "Truncated", "%", "Share of answers that reached the length limit or the turn limit."),
        ("length", "Length", "tokens", "Mean length of an answer."),
    ]
    rows = []
    for field, label, of, meaning in titles:
        cells = []
        for recipe in view.recipes:
            values = []
            for run in recipe.runs:
                last = run.evaluations[-1] if run.evaluations else {}
                tasks = run.summary.get("order") or []
                scores = [s for name, s in (last.get("scores") or {}).items() if name in tasks]
                values += [v for s in scores if (v := number(s.get(field))) is not None]
            text = _form_text(field, values)
            cells.append((text, "", False))
        if view.untrained:
            cells.append((_form_of_base(view, field), "", False))
        if any(text != DASH for text, *_ in cells):
            rows.append({"label": label, "unit": of, "cells": cells, "meaning": meaning})
    return rows


def _form_text(field: str, values: Sequence[float]) -> str:
    """The mean of well-formed or truncated shares, or of lengths."""
    mean = fmean(values) if values else None
    return DASH if mean is None else f"{mean:.1f}" if field == "length" else percent(mean)


def _form_of_base(view: SummaryView, field: str) -> str:
    """The same of the base, over the tasks; mean over runs."""
    values = []
    for run in view.runs:
        first = run.evaluations[0] if run.evaluations else {}
        scores = [s for name, s in (first.get("scores") or {}).items() if name in (run.summary.get("order") or [])]
        values += [v for s in scores if (v := number(s.get(field))) is not None]
    return _form_text(field, values)
