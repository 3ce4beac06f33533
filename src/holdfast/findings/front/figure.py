"""The front as a figure: old skills against tasks at the end, with the band of the front. Torch-free."""

from holdfast.findings.front.page import HEADER, table_rows
from holdfast.findings.front.run import MeasuredFront
from holdfast.findings.front.standing import Standing
from holdfast.reporting.figure import COLORS, SYMBOLS, Figure, Spec, layout, line, plot_text


def front_figure(measured: MeasuredFront) -> Figure:
    """One mark per arm with its 95% intervals: filled with replay, with a black border if it blends. A recipe has one
    color."""
    band = measured.front.band
    alt = "; ".join(f"{row[0]}: tasks {row[2]}, old skills {row[3]}" for row in table_rows(measured))
    recipes = list(dict.fromkeys(each.arm.name for each in measured.standings))
    traces: list[Spec] = [
        {
            **line([*band.final, *reversed(band.final)], [*band.high, *reversed(band.low)], "muted", width=0),
            "fill": "toself",
            "fillcolor": "@muted/0.15",
            "name": "the front, 95% of resampled worlds",
        },
        {**line(band.final, band.mean, "muted", dash="dot", width=1.5), "name": "the front"},
        *(_mark(each, recipes.index(each.arm.name)) for each in measured.standings),
        {
            "type": "scatter",
            "mode": "markers",
            "x": [measured.base.final],
            "y": [measured.base.kept],
            "marker": {"color": "@fg", "symbol": "x", "size": 10},
            "name": "untrained",
        },
    ]
    return Figure(
        id="fig-front",
        title="Old skills against tasks at the end",
        note="Up and to the right is better. Filled marks have replay, black borders blending. Whiskers are 95% CIs "
        "over worlds.",
        alt=f"Scatter plot of {alt}.",
        spec={
            "data": traces,
            "layout": layout(
                height=560,
                xaxis={"title": {"text": "Tasks at the end, % (right is better)"}},
                yaxis={"title": {"text": "Old skills at the end, % (up is better)"}},
            ),
        },
        headers=HEADER,
        rows=tuple(table_rows(measured)),
    )


def _mark(each: Standing, place: int) -> Spec:
    shade, symbol = f"@c{place % COLORS}", SYMBOLS[place % len(SYMBOLS)]
    final, kept = each.estimate("final"), each.estimate("kept")
    spreads = {}
    for name, estimate in (("error_x", final), ("error_y", kept)):
        if estimate.ci95 is not None and estimate.mean is not None:
            spreads[name] = {
                "type": "data",
                "array": [estimate.ci95[1] - estimate.mean],
                "color": f"{shade}/0.6",
                "thickness": 1.2,
                "width": 3,
            }
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [final.mean],
        "y": [kept.mean],
        "marker": {
            "color": shade,
            "symbol": symbol if each.arm.replays else f"{symbol}-open",
            "size": 11,
            "line": {"color": "@fg" if each.arm.blends else shade, "width": 2},
        },
        "name": plot_text(each.arm.label),
        **spreads,
    }
