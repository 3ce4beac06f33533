"""Forgetting against KL to the base model: on old skills if that was measured, otherwise on the tasks' prompts.

KL on the demonstrations of held-out suites follows forgetting more closely: in 50 runs on a synthetic world its rank
correlation with what was lost was .88, against .41 on the new task's prompts. arXiv 2509.04259 reports that the KL on
the new tasks' prompts predicts forgetting. If both are there, the note gives both rank correlations.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.measure.response import Fit, fit_forgetting
from holdfast.reporting.figure import Figure, Spec, color, layout, line, plot_text, symbol
from holdfast.reporting.number_format import nats, number, points
from holdfast.reporting.view import RecipeView, SummaryView

BAND_POINTS = 40
"""Points at which the edge of the 95% band is computed."""


def forgetting_prediction_figure(view: SummaryView) -> Figure | None:
    """A scatter of all stages of all runs, and a fit over the runs' last stages; None if nothing was measured.

    Only last stages are fitted, because the stages of one run are not independent.
    """
    measured = view.summary.get("forgetting_prediction") or {}
    measurable = [p for p in measured.get("points") or [] if number(p.get("forgetting")) is not None]
    is_old = bool(measurable) and all(number(p.get("kl_old")) is not None for p in measurable)
    key, fit_key, where = ("kl_old", "fit_old", "old skills") if is_old else ("kl", "fit", "the tasks' prompts")
    known = [{**p, "kl": p[key]} for p in measurable if number(p.get(key)) is not None]
    if not known:
        return None
    last = max(int(p["stage"]) for p in known)
    ends = [p for p in known if int(p["stage"]) == last]
    fit = measured.get(fit_key)
    traces: list[Spec] = _line_and_band(fit, ends)
    for recipe in view.recipes:
        traces += _paths(recipe, [p for p in known if p.get("label") == recipe.label], last)
    for recipe in view.recipes:
        traces += _ends(recipe, [p for p in ends if p.get("label") == recipe.label])
    return Figure(
        id="fig-predicted",
        title=f"Forgetting against KL to base on {where}",
        note=_note(view, fit, last) + (_both(measured) if is_old else ""),
        alt=f"Scatter plot of forgetting against KL to base on {where}, {len(known)} points. {_fit_text(fit)}",
        spec={
            "data": traces,
            "layout": layout(
                height=430,
                xaxis={"title": {"text": f"KL to base on {where}, nats per token"}, "rangemode": "tozero"},
                yaxis={"title": {"text": "Forgetting, points"}},
            ),
        },
        headers=("Run", "After stage", "KL to base, nats per token", "Forgetting, points"),
        rows=tuple(
            (_run_name(view, p), str(p["stage"]), nats(p["kl"]), points(p["forgetting"]))
            for p in sorted(known, key=lambda p: (p["stage"], p["kl"]))
        ),
    )


def _line_and_band(fit: Mapping[str, Any] | None, ends: Sequence[Mapping[str, Any]]) -> list[Spec]:
    """The fitted line and the 95% band of its mean, over the range of the fitted points."""
    if not fit or int(fit.get("n") or 0) != len(ends):
        return []
    kl = [float(p["kl"]) for p in ends]
    # The summary has the fit but not its band, so the same points are fitted again.
    refit: Fit = fit_forgetting(kl, [float(p["forgetting"]) for p in ends])
    low, high = min(kl), max(kl)
    xs = [low + (high - low) * k / (BAND_POINTS - 1) for k in range(BAND_POINTS)]
    means, intervals = zip(*(refit.predict(x) for x in xs))
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


def _paths(recipe: RecipeView, known: Sequence[Mapping[str, Any]], last: int) -> list[Spec]:
    """A thin line through each run's stages, and a small mark at every stage but the last."""
    traces = []
    for run in dict.fromkeys((p.get("seed"), p.get("order_index")) for p in known):
        stages = [p for p in known if (p.get("seed"), p.get("order_index")) == run]
        stages.sort(key=lambda p: int(p["stage"]))
        xs, ys = [float(p["kl"]) for p in stages], [100 * float(p["forgetting"]) for p in stages]
        before = sum(int(p["stage"]) != last for p in stages)
        shared = {"showlegend": False, "meta": {"recipe": recipe.index}}
        if len(stages) > 1:
            traces.append(line(xs, ys, f"{color(recipe)}/0.28", width=1) | shared | {"hoverinfo": "skip"})
        if before:
            traces.append(
                shared
                | {
                    "type": "scatter",
                    "mode": "markers",
                    "x": xs[:before],
                    "y": ys[:before],
                    "marker": {"color": f"@{color(recipe)}/0.45", "symbol": symbol(recipe), "size": 6},
                    "name": f"{plot_text(recipe.label)}, earlier stage",
                    "hovertemplate": "%{x:.3f} nats<br>forgetting %{y:.1f} points<extra>%{fullData.name}</extra>",
                }
            )
    return traces


def _ends(recipe: RecipeView, ends: Sequence[Mapping[str, Any]]) -> list[Spec]:
    """The recipe's runs at the end. The highest mark has the label above it, so that the label covers no other mark."""
    if not ends:
        return []
    ordered = sorted(ends, key=lambda p: float(p["forgetting"]))
    text = [""] * (len(ordered) - 1) + [f"<b>{plot_text(recipe.label)}</b>"]
    return [
        {
            "type": "scatter",
            "mode": "markers+text",
            "x": [float(p["kl"]) for p in ordered],
            "y": [100 * float(p["forgetting"]) for p in ordered],
            "text": text,
            "textposition": "top center",
            "textfont": {"color": f"@{color(recipe)}", "size": 14},
            "marker": {
                "color": f"@{color(recipe)}",
                "symbol": symbol(recipe),
                "size": 11,
                "line": {"color": "@surface", "width": 1},
            },
            "cliponaxis": False,
            "name": plot_text(recipe.label),
            "showlegend": False,
            "hovertemplate": "%{x:.3f} nats<br>forgetting %{y:.1f} points<extra>%{fullData.name}</extra>",
            "meta": {"recipe": recipe.index, "labeled": True},
        }
    ]


def _note(view: SummaryView, fit: Mapping[str, Any] | None, last: int) -> str:
    marks = f"Large marks are runs after stage {last}. Small marks are earlier stages of the same run. "
    if view.is_run:
        marks = "There is one mark per finished stage; the large one is the last stage. "
    band = "The dashed line is the fit over the large marks, the band its 95% CI. " if fit else ""
    return marks + band + _fit_text(fit)


def _both(measured: Mapping[str, Any]) -> str:
    """How well the KL on the tasks' prompts does beside that on old skills."""
    fit = measured.get("fit")
    other = f" On the tasks' prompts the rank correlation is {_signed(fit['spearman'])}." if fit else ""
    return (
        " KL on old skills is measured on the demonstrations of held-out suites, so it is a measure of the loss, not a "
        f"forecast.{other}"
    )


def _fit_text(fit: Mapping[str, Any] | None) -> str:
    if not fit:
        return "Too few runs for a fit: it needs at least 3."
    low, high = fit["slope_ci95"]
    return (
        f"Slope {points(fit['slope'])} points per nat, 95% CI [{points(low)}, {points(high)}]; "
        f"R² {fit['r2']:.2f}; rank correlation {_signed(fit['spearman'])}; n = {fit['n']} runs."
    )


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _run_name(view: SummaryView, point: Mapping[str, Any]) -> str:
    name = f"{point.get('label')}, seed {point.get('seed')}"
    return f"{name}, order {int(point.get('order_index') or 0) + 1}" if len(view.orders) > 1 else name
