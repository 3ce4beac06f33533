"""What crept into the answers, and how it grew: a row per phrase, with its curve over the stages."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from holdfast.measure.statistics import mean_interval
from holdfast.report.growth import GrowthCurve, growth_figure, small_curve
from holdfast.report.numbers import DASH, average, number, p_text, percent, small
from holdfast.report.view import ArmView, View

KINDS = {"grown": "grown", "marker": "marker of", "teacher_phrase": "teacher's phrase"}

MOST = 24


def artifact_blocks(view: View) -> dict[str, Any]:
    """The table of artifacts per recipe, and per stage the repetition of its answers."""
    panels: list[dict[str, Any]] = []
    for arm in view.arms:
        measured = [run for run in arm.runs if run.summary.get("artifacts") or run.summary.get("repetition")]
        if measured:
            rows = _rows(arm, len(measured))
            panels.append(
                {
                    "arm": arm,
                    "recipe": arm.index,
                    "runs": len(measured),
                    "figure": growth_figure(arm, [row["shares"] for row in rows]),
                    "rows": rows,
                    "repetition": _repetition(view, [run.summary.get("repetition") or [] for run in measured]),
                }
            )
    return {"panels": panels, "recipes": [(p["recipe"], p["arm"].label) for p in panels]}


def _rows(arm: ArmView, runs: int) -> list[dict[str, Any]]:
    """A row per phrase, set, kind and task marked, the clearest first; where several runs name it, their means."""
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    steps = _steps(arm)
    for run in arm.runs:
        for each in run.summary.get("artifacts") or []:
            key = tuple(str(each.get(k) or "") for k in ("phrase", "set", "kind", "marker_of"))
            found.setdefault(key, []).append(each)
    rows = [_row(arm, key, entries, runs, steps) for key, entries in found.items()]
    rows.sort(key=lambda row: (-row["named"], -row["order"]))
    return rows[:MOST]


def _steps(arm: ArmView) -> dict[int, int]:
    """The last step of each stage."""
    steps: dict[int, int] = {}
    for point in (point for run in arm.runs for point in run.summary.get("curves") or []):
        steps[int(point["stage"])] = max(steps.get(int(point["stage"]), 0), int(point["step"]))
    return steps


def _within(entries: Sequence[Mapping[str, Any]], steps: Mapping[int, int]) -> list[tuple[float, float]]:
    """Shares at probes, between the stages that they lie between; means over runs."""
    found: dict[tuple[int, int], list[float]] = {}
    for each in (each for entry in entries for each in entry.get("within") or []):
        found.setdefault((int(each["stage"]), int(each["step"])), []).append(float(each["share"]))
    return [
        (stage - 1 + step / steps[stage], fmean(shares))
        for (stage, step), shares in sorted(found.items())
        if step < steps.get(stage, 0)
    ]


def _row(
    arm: ArmView, key: tuple[str, ...], entries: Sequence[Mapping[str, Any]], runs: int, steps: Mapping[int, int]
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
        "curve": small_curve(arm, curve),
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
    """The factor per stage and its interval: a run's own, or of the geometric mean over runs."""
    if len(entries) == 1:
        ci = entries[0].get("growth_ci95")
        return number(entries[0].get("growth")), f"[{small(ci[0])}, {small(ci[1])}]" if ci else ""
    logs = [math.log(g) for e in entries if (g := number(e.get("growth"))) is not None and g > 0]
    found = mean_interval(logs)
    if found.mean is None:
        return None, ""
    interval = "" if found.ci95 is None else f"[{small(math.exp(found.ci95[0]))}, {small(math.exp(found.ci95[1]))}]"
    return math.exp(found.mean), interval


def _repetition(view: View, measured: Sequence[Sequence[Mapping[str, Any]]]) -> list[tuple[str, list[str]]]:
    """Per stage the means over runs: compression, repeated 4-grams, looping, cut off."""
    stages = sorted({int(e["stage"]) for entries in measured for e in entries})
    rows = []
    for stage in stages:
        at = [e for entries in measured for e in entries if int(e["stage"]) == stage]
        shares = [percent(average(e.get(k) for e in at)) for k in ("repeated_4grams", "looping", "truncated")]
        name = "before" if stage == 0 else f"after stage {stage}"
        rows.append((name, [small(average(e.get("compression") for e in at)), *shares]))
    return rows
