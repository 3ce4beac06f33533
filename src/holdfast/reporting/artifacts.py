"""Artifacts: phrases that became more frequent in the answers. A row per phrase, with its curve over the stages."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from holdfast.measure.statistics import mean_interval
from holdfast.reporting.number_format import DASH, average, number, p_text, percent, small
from holdfast.reporting.phrase_growth import GrowthCurve, growth_figure, small_curve
from holdfast.reporting.view import RecipeView, SummaryView

KINDS = {"grown": "grown", "marker": "marker of", "teacher_phrase": "teacher's phrase"}
"""Kinds of artifacts in the summary, and what the table calls them."""

MOST = 24
"""Rows per recipe."""


def artifact_panels(view: SummaryView) -> dict[str, Any]:
    """Per recipe: the table of artifacts, the figure of the clearest, and the repetition of its answers by stage."""
    panels: list[dict[str, Any]] = []
    for recipe in view.recipes:
        measured = [run for run in recipe.runs if run.summary.get("artifacts") or run.summary.get("repetition")]
        if measured:
            rows = _rows(recipe, len(measured))
            panels.append(
                {
                    "recipe": recipe.index,
                    "label": recipe.label,
                    "runs": len(measured),
                    "figure": growth_figure(recipe, [row["shares"] for row in rows]),
                    "rows": rows,
                    "repetition": _repetition([run.summary.get("repetition") or [] for run in measured]),
                }
            )
    return {"panels": panels, "recipes": [(panel["recipe"], panel["label"]) for panel in panels]}


def _rows(recipe: RecipeView, runs: int) -> list[dict[str, Any]]:
    """A row per phrase, set, kind and marked task; first those that most runs name, then the clearest.

    If several runs name a phrase, the row has their means.
    """
    by_key: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    steps = _steps(recipe)
    for run in recipe.runs:
        for each in run.summary.get("artifacts") or []:
            key = tuple(str(each.get(k) or "") for k in ("phrase", "set", "kind", "marker_of"))
            by_key.setdefault(key, []).append(each)
    rows = [_row(recipe, key, entries, runs, steps) for key, entries in by_key.items()]
    rows.sort(key=lambda row: (-row["named"], -row["order"]))
    return rows[:MOST]


def _steps(recipe: RecipeView) -> dict[int, int]:
    """The last step of each stage."""
    steps: dict[int, int] = {}
    for point in (point for run in recipe.runs for point in run.summary.get("curves") or []):
        steps[int(point["stage"])] = max(steps.get(int(point["stage"]), 0), int(point["step"]))
    return steps


def _within(entries: Sequence[Mapping[str, Any]], steps: Mapping[int, int]) -> list[tuple[float, float]]:
    """(fraction of stages, share) at the probes within stages; means over runs."""
    by_step: dict[tuple[int, int], list[float]] = {}
    for each in (each for entry in entries for each in entry.get("within") or []):
        by_step.setdefault((int(each["stage"]), int(each["step"])), []).append(float(each["share"]))
    return [
        (stage - 1 + step / steps[stage], fmean(shares))
        for (stage, step), shares in sorted(by_step.items())
        if step < steps.get(stage, 0)
    ]


def _row(
    recipe: RecipeView, key: tuple[str, ...], entries: Sequence[Mapping[str, Any]], runs: int, steps: Mapping[int, int]
) -> dict[str, Any]:
    phrase, of, kind, marker_of = key
    stages = sorted({int(s) for e in entries for s in e.get("stages") or []})
    curves = [dict(zip(e.get("stages") or [], e.get("shares") or [])) for e in entries]
    shares = [average(curve.get(s) for curve in curves) for s in stages]
    known = [(s, x) for s, x in zip(stages, shares) if x is not None]
    qs = [q for e in entries if (q := number(e.get("q"))) is not None]
    z = average(e.get("z") for e in entries)
    demonstrations = number(average(e.get("share_demonstrations") for e in entries))
    curve = GrowthCurve(phrase, of, known, _within(entries, steps), demonstrations)
    examples = list(dict.fromkeys(str(x) for e in entries for x in e.get("examples") or []))
    growth, interval = _growth(entries)
    return {
        "phrase": phrase,
        "kind": f"{KINDS.get(kind, kind)} {marker_of}".strip(),
        "set": of or "all sets",
        "first": percent(known[0][1]) if known else DASH,
        "last": percent(known[-1][1]) if known else DASH,
        "demonstrations": percent(demonstrations),
        "shares": curve,
        "curve": small_curve(recipe, curve),
        "z": DASH if z is None else f"{z:.1f}".replace("-", "−"),
        "q": p_text(max(qs)) if qs else DASH,
        "growth": "×" + small(growth) if growth is not None else DASH,
        "interval": interval,
        "named": len(entries),
        "runs": f"in {len(entries)} of {runs} runs" if runs > 1 else "",
        "examples": ", ".join(examples[:4]),
        "order": z if z is not None else (known[-1][1] - known[0][1] if known else 0.0),
    }


def _growth(entries: Sequence[Mapping[str, Any]]) -> tuple[float | None, str]:
    """The factor per stage and its 95% CI: from the run itself, or of the geometric mean over several runs."""
    if len(entries) == 1:
        ci = entries[0].get("growth_ci95")
        return number(entries[0].get("growth")), f"[{small(ci[0])}, {small(ci[1])}]" if ci else ""
    logs = [math.log(g) for e in entries if (g := number(e.get("growth"))) is not None and g > 0]
    mean = mean_interval(logs)
    if mean.mean is None:
        return None, ""
    interval = "" if mean.ci95 is None else f"[{small(math.exp(mean.ci95[0]))}, {small(math.exp(mean.ci95[1]))}]"
    return math.exp(mean.mean), interval


def _repetition(measured: Sequence[Sequence[Mapping[str, Any]]]) -> list[tuple[str, list[str]]]:
    """Per stage the means over runs: compression, repeated 4-grams, looping, truncated."""
    stages = sorted({int(e["stage"]) for entries in measured for e in entries})
    rows = []
    for stage in stages:
        at = [e for entries in measured for e in entries if int(e["stage"]) == stage]
        shares = [percent(average(e.get(k) for e in at)) for k in ("repeated_4grams", "looping", "truncated")]
        name = "before" if stage == 0 else f"after stage {stage}"
        rows.append((name, [small(average(e.get("compression") for e in at)), *shares]))
    return rows
