"""Learning against forgetting: one point per recipe, and the Pareto front."""

from collections.abc import Mapping, Sequence

from holdfast.reporting.figure import Figure, Spec, color, layout, line, plot_text, symbol, whiskers
from holdfast.reporting.number_format import ShownEstimate, interval_text, number, percent
from holdfast.reporting.view import RecipeView, RunView, SummaryView

# The drawing area in pixels on a wide screen. Labels are placed for it; a narrow screen shows no labels.
WIDTH, HEIGHT = 960, 390

MARKS = "Large marks are means over runs with 95% CIs, small marks are single runs. "

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""

Placed = tuple[RecipeView, ShownEstimate, ShownEstimate]
"""A recipe with its overall forgetting (x) and its final score (y)."""


def tradeoff_figure(view: SummaryView) -> Figure | None:
    """Final score against overall forgetting, with 95% CIs, single runs and the Pareto front; None for a single run."""
    placed: list[Placed] = [
        (recipe, lost, final)
        for recipe in view.recipes
        if (lost := _estimate(recipe, "loss_of_earlier")).mean is not None
        and (final := _estimate(recipe, "final_score")).mean is not None
    ]
    if view.is_run or not placed:
        return None
    dots = {recipe.index: _dots(recipe) for recipe, _, _ in placed}
    base = view.untrained.get("final_score", ShownEstimate(None)).mean
    at_base = [] if base is None else [(0.0, 100 * base)]
    x_range = _range(
        [x for x, _ in at_base]
        + [x for d in dots.values() for x, _ in d]
        + [x for _, lost, _ in placed for x in _ends(lost)]
    )
    y_range = _range(
        [y for _, y in at_base]
        + [y for d in dots.values() for _, y in d]
        + [y for _, _, final in placed for y in _ends(final)]
    )
    corners = _place_labels(placed, x_range, y_range)

    front = sorted((_at(lost), _at(final)) for recipe, lost, final in placed if recipe.on_front)
    traces: list[Spec] = []
    if len(front) > 1:
        path = line([x for x, _ in front], [y for _, y in front], "muted", dash="dot", width=1.5)
        traces.append({**path, "name": "Pareto front", "hoverinfo": "skip"})
    traces += [_run_dots(recipe, dots[recipe.index]) for recipe, _, _ in placed if len(dots[recipe.index]) > 1]
    traces += [_mean_mark(recipe, lost, final, corner) for (recipe, lost, final), corner in zip(placed, corners)]
    traces += [_untrained_mark(base, view.untrained_label)] if base is not None else []
    alt_text = [
        f"{recipe.label}: final score {percent(final.mean)}%, forgetting {percent(lost.mean)} points"
        for recipe, lost, final in placed
    ]
    on_front = ", ".join(recipe.label for recipe, _, _ in placed if recipe.on_front)
    return Figure(
        id="fig-tradeoff",
        title="Learning against forgetting",
        note="Up and to the left is better. "
        + ("There is one run per recipe, so there are no CIs. " if view.single else MARKS)
        + "A ring marks the Pareto front: no other recipe has both a higher final score and less forgetting."
        + ("" if base is None else " The cross is the base without training."),
        alt=f"Scatter plot. {'; '.join(alt_text)}. On the Pareto front: {on_front or 'none'}.",
        spec={
            "data": traces,
            "layout": layout(
                height=460,
                xaxis={"title": {"text": "Forgetting, points (left is better)"}, "range": x_range},
                yaxis={"title": {"text": "Final score, % (up is better)"}, "range": y_range},
            ),
        },
        headers=("Recipe", "Final score, %", "95% CI", "Forgetting, points", "95% CI", "Pareto front"),
        rows=tuple(
            (
                recipe.label,
                percent(final.mean),
                interval_text(final, "score"),
                percent(lost.mean),
                interval_text(lost, "loss"),
                "yes" if recipe.on_front else "no",
            )
            for recipe, lost, final in placed
        )
        + (() if base is None else ((view.untrained_label, percent(base), "", percent(0.0), "", "no"),)),
    )


def _dots(recipe: RecipeView) -> list[tuple[float, float]]:
    """(points forgotten, final score in %) of the recipe's complete runs."""
    dots = []
    for run in recipe.runs:
        x, y = _run_metric(run, "loss_of_earlier"), _run_metric(run, "final_score")
        if run.summary.get("status") == "complete" and x is not None and y is not None:
            dots.append((100 * x, 100 * y))
    return dots


def _run_dots(recipe: RecipeView, dots: Sequence[tuple[float, float]]) -> Spec:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [x for x, _ in dots],
        "y": [y for _, y in dots],
        "marker": {"color": f"@{color(recipe)}/0.4", "symbol": symbol(recipe), "size": 6},
        "name": f"{plot_text(recipe.label)}, one run",
        "showlegend": False,
        "hovertemplate": "final score %{y:.1f}%<br>forgetting %{x:.1f} points<extra>%{fullData.name}</extra>",
        "meta": {"recipe": recipe.index},
    }


def _mean_mark(recipe: RecipeView, lost: ShownEstimate, final: ShownEstimate, corner: str | None) -> Spec:
    ring = {"color": "@fg", "width": 2} if recipe.on_front else {"color": "@surface", "width": 1}
    return {
        "type": "scatter",
        "mode": "markers+text" if corner else "markers",
        "x": [_at(lost)],
        "y": [_at(final)],
        "error_x": whiskers(lost, recipe),
        "error_y": whiskers(final, recipe),
        "marker": {"color": f"@{color(recipe)}", "symbol": symbol(recipe), "size": 14, "line": ring},
        "text": [f"<b>{plot_text(recipe.label)}</b>"],
        "textposition": corner or "top right",
        "textfont": {"color": f"@{color(recipe)}", "size": 14},
        "cliponaxis": False,
        "name": plot_text(recipe.label),
        "showlegend": corner is None,
        "hovertemplate": "final score %{y:.1f}%<br>forgetting %{x:.1f} points<extra>%{fullData.name}</extra>",
        "meta": {"recipe": recipe.index, "labeled": True},
    }


def _untrained_mark(final: float, label: str) -> Spec:
    """The base: it has forgotten nothing, and learned nothing."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [0.0],
        "y": [100 * final],
        "marker": {"color": "@muted", "symbol": "x-thin-open", "size": 12, "line": {"width": 2}},
        "name": label,
        "hovertemplate": "final score %{y:.1f}%<br>forgetting 0 points<extra>%{fullData.name}</extra>",
    }


def _range(values: Sequence[float]) -> list[float]:
    """An axis range with some margin. It spans at least two points, so that noise does not fill the figure."""
    low, high = min(values), max(values)
    middle, half = (low + high) / 2, max((high - low) / 2, 1.0)
    return [middle - 1.12 * half, middle + 1.12 * half]


def _place_labels(placed: Sequence[Placed], x_range: Sequence[float], y_range: Sequence[float]) -> list[str | None]:
    """For each mean the corner that fits its label best, as plotly's textposition; None if every corner is covered.

    Error bars run straight up, down, left and right of a mark, so only corners are tried. Labels are placed greedily in
    the order given.
    """

    def pixel(x: float, y: float) -> tuple[float, float]:
        across = (x - x_range[0]) / (x_range[1] - x_range[0])
        return WIDTH * across, HEIGHT * (y - y_range[0]) / (y_range[1] - y_range[0])

    taken: list[Box] = []
    for _, lost, final in placed:
        x, y = pixel(_at(lost), _at(final))
        left, bottom = pixel(_ends(lost)[0], _ends(final)[0])
        right, top = pixel(_ends(lost)[1], _ends(final)[1])
        taken += [(x - 9, y - 9, x + 9, y + 9), (left, y - 2, right, y + 2), (x - 2, bottom, x + 2, top)]
    chosen: list[str | None] = []
    for recipe, lost, final in placed:
        x, y = pixel(_at(lost), _at(final))
        width, height = 9.0 * len(recipe.label), 17.0
        corners: dict[str, Box] = {
            "top right": (x + 9, y + 5, x + 9 + width, y + 5 + height),
            "top left": (x - 9 - width, y + 5, x - 9, y + 5 + height),
            "bottom right": (x + 9, y - 5 - height, x + 9 + width, y - 5),
            "bottom left": (x - 9 - width, y - 5 - height, x - 9, y - 5),
        }

        covered = {name: _covered(box, taken) for name, box in corners.items()}
        best = min(covered, key=covered.__getitem__)
        fits = covered[best] < 0.2 * width * height  # a label that touches a whisker can still be read
        if fits:
            taken.append(corners[best])
        chosen.append(best if fits else None)
    return chosen


def _covered(box: Box, taken: Sequence[Box]) -> float:
    """Area of a label in square pixels that covers something, or is outside the figure on the left or right."""
    outside = max(0.0, -box[0]) + max(0.0, box[2] - WIDTH)
    return outside * (box[3] - box[1]) + sum(_overlap(box, other) for other in taken)


def _overlap(a: Box, b: Box) -> float:
    across, up = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return across * up if across > 0 and up > 0 else 0.0


def _estimate(recipe: RecipeView, metric: str) -> ShownEstimate:
    return recipe.metrics.get(metric, ShownEstimate(None))


def _at(value: ShownEstimate) -> float:
    """The mean in percent."""
    assert value.mean is not None
    return 100 * value.mean


def _ends(value: ShownEstimate) -> tuple[float, float]:
    """The 95% CI in percent; without one, the mean twice."""
    if value.ci95 is None:
        return _at(value), _at(value)
    return 100 * value.ci95[0], 100 * value.ci95[1]


def _run_metric(run: RunView, metric: str) -> float | None:
    value = (run.summary.get("metrics") or {}).get(metric)
    return number(value.get("mean") if isinstance(value, Mapping) else value)
