"""Every set of a single run, before the first stage, when learned, and at the end."""

from collections.abc import Callable

from holdfast.reporting.figure import Figure, Spec, layout, line, plot_text, spread
from holdfast.reporting.number_format import DASH, percent, points
from holdfast.reporting.view import MatrixCell, SummaryView


def before_and_after_figure(view: SummaryView) -> Figure | None:
    """A row per set with up to three marks; None for a comparison, and if no set has a score before and at the end."""
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
        cells = [None if stage is None else view.cell(view.recipes[0], 0, stage, name) for stage in at]
        if cells[0] is not None and cells[2] is not None:
            table[name] = cells
    if not table:
        return None
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
                "hovertemplate": "%{y}: %{x:.1f}%<extra>%{fullData.name}</extra>",
            }
        )
    rows = tuple(
        (name, *(DASH if cell is None else percent(cell.mean) for cell in cells), points(_change(cells[0], cells[2])))
        for name, cells in table.items()
    )
    return Figure(
        id="fig-sets",
        title="Every set, before and after",
        note="Whiskers are 95% CIs over the items of a set. The items are the same before and after, so overlapping "
        "whiskers do not mean that nothing fell: see what became of the items. Sets that nothing judges have no score "
        "and are not shown.",
        alt="Dot plot. " + "; ".join(f"{row[0]}: {row[1]}% before, {row[3]}% at the end" for row in rows) + ".",
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


def _own_stage(view: SummaryView, name: str, last: int) -> int | None:
    """The stage that trains on a set; None for a suite, and for a task whose stage is not finished."""
    order = view.orders[0]
    stage = order.index(name) + 1 if name in order else None
    return stage if stage is not None and stage <= last else None


def _change(before: MatrixCell | None, after: MatrixCell | None) -> float | None:
    return None if before is None or after is None else after.mean - before.mean
