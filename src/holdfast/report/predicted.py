"""Forgetting against KL to the base on the tasks' prompts, which arXiv 2509.04259 found it to follow."""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.measure.response import Fit, fit_forgetting
from holdfast.report.numbers import nats, number, points
from holdfast.report.plot import Figure, Spec, color, layout, line, plot_text, symbol
from holdfast.report.view import ArmView, View

BAND_POINTS = 40


def predicted(view: View) -> Figure | None:
    """The scatter of all stages of all runs, with the fit over the runs' ends; None where nothing was measured."""
    measured = view.summary.get("forgetting_prediction") or {}
    found = [p for p in measured.get("points") or [] if None not in (number(p.get("kl")), number(p.get("forgetting")))]
    if not found:
        return None
    last = max(int(p["stage"]) for p in found)
    ends = [p for p in found if int(p["stage"]) == last]
    fit = measured.get("fit")
    traces: list[Spec] = _line_and_band(fit, ends)
    for arm in view.arms:
        own = [p for p in found if p.get("label") == arm.label]
        traces += _paths(arm, own, last)
    for arm in view.arms:
        traces += _ends(arm, [p for p in ends if p.get("label") == arm.label])
    return Figure(
        id="fig-predicted",
        title="Forgetting against KL to the base",
        note=_note(view, fit, last),
        alt=f"Scatter plot of earlier skills lost against KL to the base, {len(found)} points. {_fit_text(fit)}",
        spec={
            "data": traces,
            "layout": layout(
                height=430,
                xaxis={"title": {"text": "KL to base on the tasks' prompts, nats per token"}, "rangemode": "tozero"},
                yaxis={"title": {"text": "Earlier skills lost, points"}},
            ),
        },
        headers=("Run", "After stage", "KL to base, nats per token", "Earlier skills lost, points"),
        rows=tuple(
            (_run_name(view, p), str(p["stage"]), nats(p["kl"]), points(p["forgetting"]))
            for p in sorted(found, key=lambda p: (p["stage"], p["kl"]))
        ),
    )


def _line_and_band(fit: Mapping[str, Any] | None, ends: Sequence[Mapping[str, Any]]) -> list[Spec]:
    """The fitted line and the 95 % band of its mean, over the range of what it was fitted to."""
    if not fit or int(fit.get("n") or 0) != len(ends):
        return []
    kl = [float(p["kl"]) for p in ends]
    again: Fit = fit_forgetting(kl, [float(p["forgetting"]) for p in ends])
    low, high = min(kl), max(kl)
    xs = [low + (high - low) * k / (BAND_POINTS - 1) for k in range(BAND_POINTS)]
    means, intervals = zip(*(again.predict(x) for x in xs))
    band = {
        "type": "scatter",
        "mode": "lines",
        "x": xs + xs[::-1],
        "y": [100 * top for _, top in intervals] + [100 * bottom for bottom, _ in reversed(intervals)],
        "fill": "toself",
        "fillcolor": "@muted/0.12",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    mean = line([xs[0], xs[-1]], [100 * means[0], 100 * means[-1]], "muted", width=1.5, dash="dash")
    return [band, {**mean, "hoverinfo": "skip", "showlegend": False}]


def _paths(arm: ArmView, found: Sequence[Mapping[str, Any]], last: int) -> list[Spec]:
    """A thin line through each run's stages, and a small mark at each but the last."""
    traces = []
    for run in dict.fromkeys((p.get("seed"), p.get("order_index")) for p in found):
        own = sorted((p for p in found if (p.get("seed"), p.get("order_index")) == run), key=lambda p: int(p["stage"]))
        xs, ys = [float(p["kl"]) for p in own], [100 * float(p["forgetting"]) for p in own]
        before = sum(int(p["stage"]) != last for p in own)
        shared = {"showlegend": False, "meta": {"arm": arm.index}}
        if len(own) > 1:
            traces.append(line(xs, ys, f"{color(arm)}/0.28", width=1) | shared | {"hoverinfo": "skip"})
        if before:
            traces.append(
                shared
                | {
                    "type": "scatter",
                    "mode": "markers",
                    "x": xs[:before],
                    "y": ys[:before],
                    "marker": {"color": f"@{color(arm)}/0.45", "symbol": symbol(arm), "size": 6},
                    "name": f"{plot_text(arm.label)}, earlier stage",
                    "hovertemplate": "%{x:.3f} nats, %{y:.1f} points lost<extra>%{fullData.name}</extra>",
                }
            )
    return traces


def _ends(arm: ArmView, ends: Sequence[Mapping[str, Any]]) -> list[Spec]:
    """The arm's runs at the end; the highest carries the label, which stands above it and so on no other."""
    if not ends:
        return []
    ordered = sorted(ends, key=lambda p: float(p["forgetting"]))
    text = [""] * (len(ordered) - 1) + [f"<b>{plot_text(arm.label)}</b>"]
    return [
        {
            "type": "scatter",
            "mode": "markers+text",
            "x": [float(p["kl"]) for p in ordered],
            "y": [100 * float(p["forgetting"]) for p in ordered],
            "text": text,
            "textposition": "top center",
            "textfont": {"color": f"@{color(arm)}", "size": 14},
            "marker": {
                "color": f"@{color(arm)}",
                "symbol": symbol(arm),
                "size": 11,
                "line": {"color": "@surface", "width": 1},
            },
            "cliponaxis": False,
            "name": plot_text(arm.label),
            "showlegend": False,
            "hovertemplate": "%{x:.3f} nats, %{y:.1f} points lost<extra>%{fullData.name}</extra>",
            "meta": {"arm": arm.index, "labeled": True},
        }
    ]


def _note(view: View, fit: Mapping[str, Any] | None, last: int) -> str:
    seen = f"Large marks are runs after stage {last}, small ones earlier stages of the same run. "
    if view.is_run:
        seen = "One mark per finished stage, the large one is the last. "
    drawn = "The dashed line is the fit over the large marks, the band its 95 % interval. " if fit else ""
    return seen + drawn + _fit_text(fit)


def _fit_text(fit: Mapping[str, Any] | None) -> str:
    if not fit:
        return "Too few runs for a fit, which takes three."
    low, high = fit["slope_ci95"]
    return (
        f"Slope {points(fit['slope'])} points per nat, 95 % interval [{points(low)}, {points(high)}]; "
        f"R² {fit['r2']:.2f}, rank correlation {_signed(fit['spearman'])}, n = {fit['n']} runs."
    )


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _run_name(view: View, point: Mapping[str, Any]) -> str:
    name = f"{point.get('label')}, seed {point.get('seed')}"
    return f"{name}, order {int(point.get('order_index') or 0) + 1}" if len(view.orders) > 1 else name
