"""The figures about where recipes end: learning against forgetting, and a single run's sets before and after."""

from collections.abc import Callable, Mapping, Sequence

from holdfast.report.numbers import DASH, Estimate, interval_text, number, percent, points
from holdfast.report.plot import Figure, Spec, colour, layout, line, plot_text, spread, symbol, whiskers
from holdfast.report.view import Arm, Cell, Run, View


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
    traces: list[Spec] = []
    front = sorted((_at(lost), _at(final)) for arm, lost, final in placed if arm.on_front)
    if len(front) > 1:
        traces.append(
            {
                **line([100 * x for x, _ in front], [100 * y for _, y in front], "muted", dash="dot", width=1.5),
                "name": "Pareto front",
                "hoverinfo": "skip",
            }
        )
    for arm, _, _ in placed:
        dots = [(x, y) for run in arm.runs if (x := _run_metric(run, "loss_of_earlier")) is not None
                and (y := _run_metric(run, "final_score")) is not None]  # fmt: skip
        if len(dots) > 1:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [100 * x for x, _ in dots],
                    "y": [100 * y for _, y in dots],
                    "marker": {"color": f"@{colour(arm)}/0.35", "symbol": symbol(arm), "size": 6},
                    "name": f"{plot_text(arm.label)}, one run",
                    "hovertemplate": "%{y:.1f} %, %{x:.1f} points lost<extra>%{fullData.name}</extra>",
                    "meta": {"arm": arm.index},
                }
            )
    labels = _place_labels([(100 * _at(lost), 100 * _at(final)) for _, lost, final in placed])
    for (arm, lost, final), place in zip(placed, labels):
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "x": [100 * _at(lost)],
                "y": [100 * _at(final)],
                "error_x": whiskers(lost, arm),
                "error_y": whiskers(final, arm),
                "marker": {
                    "color": f"@{colour(arm)}",
                    "symbol": symbol(arm),
                    "size": 14,
                    "line": {"color": "@fg" if arm.on_front else "@surface", "width": 2 if arm.on_front else 1},
                },
                "text": [f"<b>{plot_text(arm.label)}</b>"],
                "textposition": place,
                "textfont": {"color": f"@{colour(arm)}", "size": 14},
                "cliponaxis": False,
                "name": plot_text(arm.label),
                "hovertemplate": "final score %{y:.1f} %<br>earlier skills lost %{x:.1f} points"
                "<extra>%{fullData.name}</extra>",
                "meta": {"arm": arm.index, "labelled": True},
            }
        )
    shape = layout(
        height=460,
        xaxis={"title": {"text": "Earlier skills lost, points (left is better)"}, "zeroline": True},
        yaxis={"title": {"text": "Final score, % (up is better)"}},
    )
    told = [
        f"{arm.label}: final score {percent(final.mean)} %, earlier skills lost {percent(lost.mean)} points"
        for arm, lost, final in placed
    ]
    front_names = [arm.label for arm, _, _ in placed if arm.on_front]
    return Figure(
        id="fig-tradeoff",
        title="Learning against forgetting",
        note="Up and to the left is better. Large marks are means over runs with 95 % intervals, small ones single "
        "runs. A ring marks the Pareto front: no other recipe learned more and lost less.",
        alt=f"Scatter plot. {'; '.join(told)}. On the Pareto front: {', '.join(front_names) or 'none'}.",
        spec={"data": traces, "layout": shape},
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


def by_set(view: View) -> Figure | None:
    """For a single run: every set's score before, when learned and at the end."""
    stages = view.stages(0)
    if not view.is_run or len(stages) < 2:
        return None
    arm, last = view.arms[0], stages[-1]
    names = [s["name"] for _, members in view.sets_in_order(0) for s in members]
    columns: list[tuple[str, str, Callable[[str], int | None], str]] = [
        ("before", "circle-open", lambda name: 0, "muted"),
        ("when learned", "diamond", lambda name: _own_stage(view, name, last), "c4"),
        ("at the end", "circle", lambda name: last, "c0"),
    ]
    table = {
        name: [None if (s := stage_of(name)) is None else view.cell(arm, 0, s, name) for _, _, stage_of, _ in columns]
        for name in names
    }
    table = {name: cells for name, cells in table.items() if cells[0] is not None and cells[2] is not None}
    traces: list[Spec] = []
    for name, cells in table.items():
        xs = [100 * cell.mean for cell in cells if cell is not None]
        traces.append(
            {**line(xs, [plot_text(name)] * len(xs), "line", width=3), "hoverinfo": "skip", "showlegend": False}
        )
    for k, (title, mark, _, shade) in enumerate(columns):
        known = {name: cells[k] for name, cells in table.items() if cells[k] is not None}
        cells_k = [cell for cell in known.values() if cell is not None]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": title,
                "showlegend": True,
                "x": [100 * cell.mean for cell in cells_k],
                "y": [plot_text(name) for name in known],
                "marker": {"symbol": mark, "size": 12 - 2 * (k == 1), "color": f"@{shade}", "line": {"width": 2}},
                "error_x": spread(cells_k, shade) if k == 2 else {"visible": False},
                "hovertemplate": "%{y}: %{x:.1f} %<extra>%{fullData.name}</extra>",
            }
        )
    shape = layout(
        height=110 + 34 * len(table),
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        xaxis={"title": {"text": "Score, %"}, "range": [-2, 102]},
        yaxis={"autorange": "reversed", "automargin": True, "showgrid": False, "ticksuffix": "  "},
    )
    rows = tuple(
        (name, *(DASH if cell is None else percent(cell.mean) for cell in cells), points(_change(cells[0], cells[2])))
        for name, cells in table.items()
    )
    return Figure(
        id="fig-sets",
        title="Every set, before and after",
        note="Bars are 95 % intervals over the set's items.",
        alt="Dot plot. " + "; ".join(f"{r[0]}: {r[1]} % before, {r[3]} % at the end" for r in rows) + ".",
        spec={"data": traces, "layout": shape},
        headers=("Set", "Before, %", "When learned, %", "At the end, %", "Change, points"),
        rows=rows,
    )


def _place_labels(at: Sequence[tuple[float, float]], width: float = 900, height: float = 380) -> list[str]:
    """A text position for each point, in plotly's words, that keeps clear of points and of labels placed before it.

    Whiskers run straight up, down, left and right of a point, so only its four corners are tried.
    """
    if not at:
        return []
    xs, ys = [x for x, _ in at], [y for _, y in at]
    x_unit = width / (max(xs) - min(xs) or 1) / 1.4
    y_unit = height / (max(ys) - min(ys) or 1) / 1.4
    spots = [(x * x_unit, y * y_unit) for x, y in at]
    taken: list[tuple[float, float]] = list(spots)
    places = []
    for x, y in spots:
        corners = [
            ("top right", (x + 40, y + 16)),
            ("bottom right", (x + 40, y - 16)),
            ("top left", (x - 40, y + 16)),
            ("bottom left", (x - 40, y - 16)),
        ]

        def clearance(corner: tuple[str, tuple[float, float]], here: tuple[float, float] = (x, y)) -> float:
            _, (cx, cy) = corner
            others = [t for t in taken if t != here]
            return min([1.0, *(max(abs(cx - tx) / 80, abs(cy - ty) / 24) for tx, ty in others)])

        name, centre = max(corners, key=clearance)
        taken.append(centre)
        places.append(name)
    return places


def _own_stage(view: View, name: str, last: int) -> int | None:
    """The stage that taught a set, where it is a task and that stage is over."""
    order = view.orders[0]
    stage = order.index(name) + 1 if name in order else None
    return stage if stage is not None and stage <= last else None


def _change(before: Cell | None, after: Cell | None) -> float | None:
    return None if before is None or after is None else after.mean - before.mean


def _estimate(arm: Arm, metric: str) -> Estimate:
    return arm.metrics.get(metric, Estimate(None))


def _at(value: Estimate) -> float:
    assert value.mean is not None
    return value.mean


def _run_metric(run: Run, metric: str) -> float | None:
    found = (run.summary.get("metrics") or {}).get(metric)
    return number(found.get("mean") if isinstance(found, Mapping) else found)
