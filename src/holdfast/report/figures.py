"""The figures about where recipes end: learning against forgetting, and a single run's sets before and after."""

from collections.abc import Callable, Mapping, Sequence

from holdfast.report.numbers import DASH, ShownEstimate, interval_text, number, percent, points
from holdfast.report.plot import Figure, Spec, color, layout, line, plot_text, spread, symbol, whiskers
from holdfast.report.view import ArmView, MatrixCell, RunView, View

# The drawing area on a wide screen in pixels; labels are placed for it, and left out on a narrow one.
WIDTH, HEIGHT = 960, 390

MARKS = "Large marks are means over runs with 95 % intervals, small ones single runs. "

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


def tradeoff(view: View) -> Figure | None:
    """Learning against forgetting: one point per recipe with intervals, its runs behind it, and the Pareto front."""
    placed = [
        (arm, lost, final)
        for arm in view.arms
        if (lost := _estimate(arm, "loss_of_earlier")).mean is not None
        and (final := _estimate(arm, "final_score")).mean is not None
    ]
    if view.is_run or not placed:
        return None
    dots = {arm.index: _dots(arm) for arm, _, _ in placed}
    x_range = _range([x for d in dots.values() for x, _ in d] + [x for _, lost, _ in placed for x in _ends(lost)])
    y_range = _range([y for d in dots.values() for _, y in d] + [y for _, _, final in placed for y in _ends(final)])
    places = _place_labels(placed, x_range, y_range)

    front = sorted((_at(lost), _at(final)) for arm, lost, final in placed if arm.on_front)
    traces: list[Spec] = []
    if len(front) > 1:
        path = line([x for x, _ in front], [y for _, y in front], "muted", dash="dot", width=1.5)
        traces.append({**path, "name": "Pareto front", "hoverinfo": "skip"})
    traces += [_run_dots(arm, dots[arm.index]) for arm, _, _ in placed if len(dots[arm.index]) > 1]
    traces += [_mean_mark(arm, lost, final, place) for (arm, lost, final), place in zip(placed, places)]
    told = [
        f"{arm.label}: final score {percent(final.mean)} %, earlier skills lost {percent(lost.mean)} points"
        for arm, lost, final in placed
    ]
    on_front = ", ".join(arm.label for arm, _, _ in placed if arm.on_front)
    return Figure(
        id="fig-tradeoff",
        title="Learning against forgetting",
        note="Up and to the left is better. "
        + ("One run per recipe, so there are no intervals. " if view.single else MARKS)
        + "A ring marks the Pareto front: no other recipe learned more and lost less.",
        alt=f"Scatter plot. {'; '.join(told)}. On the Pareto front: {on_front or 'none'}.",
        spec={
            "data": traces,
            "layout": layout(
                height=460,
                xaxis={"title": {"text": "Earlier skills lost, points (left is better)"}, "range": x_range},
                yaxis={"title": {"text": "Final score, % (up is better)"}, "range": y_range},
            ),
        },
        headers=("Recipe", "Final score, %", "95 % interval", "Earlier skills lost, points", "95 % interval", "Front"),
        rows=tuple(
            (
                arm.label,
                percent(final.mean),
                interval_text(final, "score"),
                percent(lost.mean),
                interval_text(lost, "loss"),
                "yes" if arm.on_front else "no",
            )
            for arm, lost, final in placed
        ),
    )


def _dots(arm: ArmView) -> list[tuple[float, float]]:
    """(points lost, final score in %) of the arm's complete runs."""
    found = []
    for run in arm.runs:
        x, y = _run_metric(run, "loss_of_earlier"), _run_metric(run, "final_score")
        if run.summary.get("status") == "complete" and x is not None and y is not None:
            found.append((100 * x, 100 * y))
    return found


def _run_dots(arm: ArmView, dots: Sequence[tuple[float, float]]) -> Spec:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [x for x, _ in dots],
        "y": [y for _, y in dots],
        "marker": {"color": f"@{color(arm)}/0.4", "symbol": symbol(arm), "size": 6},
        "name": f"{plot_text(arm.label)}, one run",
        "showlegend": False,
        "hovertemplate": "%{y:.1f} %, %{x:.1f} points lost<extra>%{fullData.name}</extra>",
        "meta": {"arm": arm.index},
    }


def _mean_mark(arm: ArmView, lost: ShownEstimate, final: ShownEstimate, place: str | None) -> Spec:
    ring = {"color": "@fg", "width": 2} if arm.on_front else {"color": "@surface", "width": 1}
    return {
        "type": "scatter",
        "mode": "markers+text" if place else "markers",
        "x": [_at(lost)],
        "y": [_at(final)],
        "error_x": whiskers(lost, arm),
        "error_y": whiskers(final, arm),
        "marker": {"color": f"@{color(arm)}", "symbol": symbol(arm), "size": 14, "line": ring},
        "text": [f"<b>{plot_text(arm.label)}</b>"],
        "textposition": place or "top right",
        "textfont": {"color": f"@{color(arm)}", "size": 14},
        "cliponaxis": False,
        "name": plot_text(arm.label),
        "showlegend": place is None,
        "hovertemplate": "final score %{y:.1f} %<br>earlier skills lost %{x:.1f} points<extra>%{fullData.name}</extra>",
        "meta": {"arm": arm.index, "labeled": True},
    }


def _range(values: Sequence[float]) -> list[float]:
    """An axis range with some air; at least two points wide, so that noise is not blown up to fill the figure."""
    low, high = min(values), max(values)
    middle, half = (low + high) / 2, max((high - low) / 2, 1.0)
    return [middle - 1.12 * half, middle + 1.12 * half]


def _place_labels(
    placed: Sequence[tuple[ArmView, ShownEstimate, ShownEstimate]], x_range: Sequence[float], y_range: Sequence[float]
) -> list[str | None]:
    """For each mean the corner that its label fits best, in plotly's words; None where it would cover something.

    Whiskers run straight up, down, left and right of a mark, so only corners are tried. Greedy, in the order given.
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
    places: list[str | None] = []
    for arm, lost, final in placed:
        x, y = pixel(_at(lost), _at(final))
        wide, high = 9.0 * len(arm.label), 17.0
        corners: dict[str, Box] = {
            "top right": (x + 9, y + 5, x + 9 + wide, y + 5 + high),
            "top left": (x - 9 - wide, y + 5, x - 9, y + 5 + high),
            "bottom right": (x + 9, y - 5 - high, x + 9 + wide, y - 5),
            "bottom left": (x - 9 - wide, y - 5 - high, x - 9, y - 5),
        }

        covered = {name: _covered(box, taken) for name, box in corners.items()}
        best = min(covered, key=covered.__getitem__)
        fits = covered[best] < 0.2 * wide * high
        if fits:
            taken.append(corners[best])
        places.append(best if fits else None)
    return places


def _covered(box: Box, taken: Sequence[Box]) -> float:
    """Area of a label that lies on something or, sideways, outside."""
    outside = max(0.0, -box[0]) + max(0.0, box[2] - WIDTH)
    return outside * (box[3] - box[1]) + sum(_overlap(box, other) for other in taken)


def _overlap(a: Box, b: Box) -> float:
    across, up = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return across * up if across > 0 and up > 0 else 0.0


def by_set(view: View) -> Figure | None:
    """For a single run: every set's score before, when learned and at the end."""
    stages = view.stages(0)
    if not view.is_run or len(stages) < 2:
        return None
    last = stages[-1]
    columns: list[tuple[str, str, Callable[[str], int | None], str]] = [
        ("before", "circle-open", lambda name: 0, "muted"),
        ("when learned", "diamond", lambda name: _own_stage(view, name, last), "c4"),
        ("at the end", "circle", lambda name: last, "c0"),
    ]
    table: dict[str, list[MatrixCell | None]] = {}
    for name in [s["name"] for _, members in view.sets_in_order(0) for s in members]:
        at = [stage_of(name) for _, _, stage_of, _ in columns]
        cells = [None if stage is None else view.cell(view.arms[0], 0, stage, name) for stage in at]
        if cells[0] is not None and cells[2] is not None:
            table[name] = cells
    traces: list[Spec] = []
    for name, cells in table.items():
        xs = [100 * cell.mean for cell in cells if cell is not None]
        bar = line(xs, [plot_text(name)] * len(xs), "line", width=3)
        traces.append({**bar, "hoverinfo": "skip", "showlegend": False})
    for k, (title, mark, _, shade) in enumerate(columns):
        known = {name: cell for name, cells in table.items() if (cell := cells[k]) is not None}
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": title,
                "x": [100 * cell.mean for cell in known.values()],
                "y": [plot_text(name) for name in known],
                "marker": {
                    "symbol": mark,
                    "size": 11,
                    "color": f"@{shade}",
                    "line": {"width": 2, "color": f"@{shade}"},
                },
                "error_x": spread(list(known.values()), shade) if k == 2 else {"visible": False},
                "hovertemplate": "%{y}: %{x:.1f} %<extra>%{fullData.name}</extra>",
            }
        )
    rows = tuple(
        (name, *(DASH if cell is None else percent(cell.mean) for cell in cells), points(_change(cells[0], cells[2])))
        for name, cells in table.items()
    )
    return Figure(
        id="fig-sets",
        title="Every set, before and after",
        note="Whiskers are 95 % intervals over the set's items.",
        alt="Dot plot. " + "; ".join(f"{row[0]}: {row[1]} % before, {row[3]} % at the end" for row in rows) + ".",
        spec={
            "data": traces,
            "layout": layout(
                height=110 + 34 * len(table),
                showlegend=True,
                legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
                xaxis={"title": {"text": "Score, %"}, "range": [-2, 102]},
                yaxis={"autorange": "reversed", "automargin": True, "showgrid": False, "ticksuffix": "  "},
            ),
        },
        headers=("Set", "Before, %", "When learned, %", "At the end, %", "Change, points"),
        rows=rows,
    )


def _own_stage(view: View, name: str, last: int) -> int | None:
    """The stage that taught a set, where it is a task and that stage is over."""
    order = view.orders[0]
    stage = order.index(name) + 1 if name in order else None
    return stage if stage is not None and stage <= last else None


def _change(before: MatrixCell | None, after: MatrixCell | None) -> float | None:
    return None if before is None or after is None else after.mean - before.mean


def _estimate(arm: ArmView, metric: str) -> ShownEstimate:
    return arm.metrics.get(metric, ShownEstimate(None))


def _at(value: ShownEstimate) -> float:
    """The mean in percent."""
    assert value.mean is not None
    return 100 * value.mean


def _ends(value: ShownEstimate) -> tuple[float, float]:
    """The interval in percent; of no interval, the mean twice."""
    if value.ci95 is None:
        return _at(value), _at(value)
    return 100 * value.ci95[0], 100 * value.ci95[1]


def _run_metric(run: RunView, metric: str) -> float | None:
    found = (run.summary.get("metrics") or {}).get(metric)
    return number(found.get("mean") if isinstance(found, Mapping) else found)
