"""Weight drift by layer: a heat map with a cell per weight matrix, module types by layers, and a panel per stage.

The cells are bars of one row's height, not plotly's heatmap trace. Plotly paints that trace as a bitmap, and a saved
SVG would then hold a picture that blurs in print. Bars stay vectors, with the same color scale and tooltips.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from holdfast.report.figure import Figure, Spec, axis, layout, plot_text
from holdfast.report.number_format import number, small
from holdfast.report.view import RecipeView, SummaryView

MEASURES = {"relative_norm": "Relative norm of the update", "spectral_shift": "Normalized spectral shift"}

TYPES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""Module types in the order in which a layer applies them; other types follow by name."""

ROW_HEIGHT = 24
"""Pixels of a row of cells."""

WIDTH, NARROWEST, MOST_BESIDE = 900, 15, 2
"""Pixels of the drawing area on a wide screen, the narrowest cell there, and the most panels side by side.

With narrower cells, panels go below each other. A third panel side by side would not leave a phone room for its title.
"""

PALEST = 0.06
"""Opacity of the color of the smallest value, so that its cell can still be seen."""

NO_LAYER = -1
"""Column of matrices that belong to no layer, e.g. the embedding."""


@dataclass(frozen=True)
class ColorScale:
    """Smallest and largest value of a measure, over all recipes, so that maps can be compared.

    Attributes:
        log: whether colors are logarithmic. They are if values span more than a factor of 30; otherwise most cells
            would have the same color.
    """

    low: float
    high: float
    log: bool

    @classmethod
    def over(cls, view: SummaryView, key: str) -> "ColorScale | None":
        """The scale of one measure; None if no matrix is above its no-op floor."""
        values = [
            value
            for run in view.runs
            for entry in run.summary.get("drift") or []
            for m in entry.get("matrices") or []
            if (value := number(m.get(key))) is not None and value > (number(m.get(f"floor_{key}")) or 0.0)
        ]
        if not values:
            return None
        low, high = min(values), max(values)
        log = high > 30 * low
        return cls(low if log else 0.0, high, log)

    def opacity(self, value: float) -> float:
        """Opacity of a cell's color, from `PALEST` to 1."""
        if self.high <= self.low:
            return 1.0
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return PALEST + (1 - PALEST) * min(1.0, max(0.0, share))

    def color_axis(self) -> Spec:
        """Plotly's color bar for these colors, labeled with values. Only its labels know whether it is logarithmic."""
        ticks = [k / 4 for k in range(5)]
        if self.log:
            labels = [small(self.low * (self.high / self.low) ** tick, 2) for tick in ticks]
        else:
            labels = [small(self.low + (self.high - self.low) * tick, 2) for tick in ticks]
        return {
            "cmin": 0,
            "cmax": 1,
            "colorscale": [[0, f"@deep/{PALEST}"], [1, "@deep"]],
            "colorbar": {
                "orientation": "h",
                "x": 0,
                "xanchor": "left",
                "y": 0,
                "yref": "container",
                "yanchor": "bottom",
                "lenmode": "pixels",
                "len": 200,
                "thickness": 10,
                "outlinewidth": 0,
                "tickvals": ticks,
                "ticktext": labels,
                "tickfont": {"color": "@muted", "size": 11},
            },
        }


@dataclass(frozen=True)
class _Cell:
    """The value and the no-op floor of a matrix, or of several experts' matrices; means over runs."""

    value: float
    floor: float

    @property
    def above(self) -> bool:
        return self.value > self.floor


Grid = Mapping[tuple[str, int], _Cell]
"""Cells by (module type, layer)."""


def layer_heatmap(
    view: SummaryView,
    recipe: RecipeView,
    order_index: int,
    key: str,
    place: int,
    stages: Mapping[int, Sequence[Mapping[str, Any]]],
    scale: ColorScale,
) -> Figure | None:
    """The heat map of one recipe, task order and measure; None if no matrix was measured.

    Args:
        key: the measure, from `MEASURES`.
        place: its index among the measures.
        stages: the summary's drift entries by stage, one entry per run.
    """
    grids = {stage: grid for stage, entries in stages.items() if (grid := _grid(entries, key))}
    if not grids:
        return None
    types = sorted({name for grid in grids.values() for name, _ in grid}, key=type_order)
    layers = sorted({layer for grid in grids.values() for _, layer in grid})
    cells = [cell for grid in grids.values() for cell in grid.values()]
    above, floor = sum(cell.above for cell in cells), max(cell.floor for cell in cells)
    return Figure(
        id=f"fig-layers-{recipe.index}-{order_index}-{place}",
        title=f"{MEASURES[key]}, {recipe.label}" if len(view.recipes) > 1 else MEASURES[key],
        note=f"One cell per matrix{', mean over runs' if len(view.runs) > len(view.recipes) else ''}. The color scale "
        f"is {'logarithmic' if scale.log else 'linear'} and the same for every recipe. A struck-out cell is not above "
        f"its own no-op floor; the largest floor is {small(floor)}.",
        alt=f"Heat map of the {MEASURES[key].lower()} of {recipe.label} by module type and layer, "
        f"{len(grids)} stages. {above} of {len(cells)} cells are above the no-op floor.",
        spec=_spec({view.stage_name(stage, order_index): grid for stage, grid in grids.items()}, types, layers, scale),
        headers=("Matrix", *(f"after {stage}" for stage in grids), "No-op floor"),
        rows=tuple(
            (
                _where(name, layer),
                *(small(grid[name, layer].value if (name, layer) in grid else None) for grid in grids.values()),
                small(next((grid[name, layer].floor for grid in grids.values() if (name, layer) in grid), None)),
            )
            for name in types
            for layer in layers
            if any((name, layer) in grid for grid in grids.values())
        ),
        filters={"recipe": recipe.index, "order": order_index, "measure": place},
    )


def _grid(entries: Sequence[Mapping[str, Any]], key: str) -> Grid:
    pairs: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for entry in entries:
        for m in entry.get("matrices") or []:
            value, layer = number(m.get(key)), m.get("layer")
            if value is not None:
                at = str(m["type"]), NO_LAYER if layer is None else int(layer)
                pairs[at].append((value, number(m.get(f"floor_{key}")) or 0.0))
    return {at: _Cell(fmean(v for v, _ in both), fmean(f for _, f in both)) for at, both in pairs.items()}


def _spec(grids: Mapping[str, Grid], types: Sequence[str], layers: Sequence[int], scale: ColorScale) -> Spec:
    """The panels in rows, one or two side by side, with the legend and the color bar below."""
    beside = max(1, min(len(grids), MOST_BESIDE, WIDTH // (len(layers) * NARROWEST + 40)))
    rows = math.ceil(len(grids) / beside)
    top, below, bottom = 44, 34, 106  # pixels for a panel's title, for its layer numbers, and for what is below panels
    height = rows * (top + ROW_HEIGHT * len(types) + below) + bottom
    traces: list[Spec] = []
    axes: Spec = {}
    titles: list[Spec] = []
    for index, (title, grid) in enumerate(grids.items()):
        number_of_axis = str(index + 1) if index else ""
        left, right = _domain(index % beside, beside, gap=0.03)
        end = 1 - (index // beside * (top + ROW_HEIGHT * len(types) + below) + top) / (height - bottom)
        start = end - ROW_HEIGHT * len(types) / (height - bottom)
        traces += _panel(grid, types, scale, number_of_axis, show_legend=index == 0)
        axes[f"xaxis{number_of_axis}"] = _layer_axis(layers, number_of_axis, most=14 // beside) | {
            "domain": [left, right]
        }
        axes[f"yaxis{number_of_axis}"] = _type_axis(types, number_of_axis, named=index % beside == 0) | {
            "domain": [max(0.0, round(start, 4)), round(end, 4)]
        }
        titles.append(
            {
                "text": f"<b>{plot_text(title).replace(' · ', '<br>')}</b>",
                "align": "left",
                "x": left,
                "xref": "paper",
                "xanchor": "left",
                "y": end,
                "yref": "paper",
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 12},
            }
        )
    # Without any mark on it, this trace only makes plotly draw the color bar. The bars have their colors already.
    on_color_axis = {"type": "scatter", "x": [None], "y": [None], "showlegend": False, "hoverinfo": "skip"}
    traces.append(on_color_axis | {"mode": "markers", "marker": {"color": [0], "coloraxis": "coloraxis"}})
    return {
        "data": traces,
        "layout": layout(
            height=height,
            xaxis={},
            yaxis={},
            margin={"l": 20, "r": 8, "t": 0, "b": bottom},
            annotations=titles,
            coloraxis=scale.color_axis(),
            barmode="overlay",
            showlegend=True,
            legend={"orientation": "h", "x": 0, "y": 44 / height, "yref": "container", "yanchor": "bottom"},
        )
        | axes,
    }


def _panel(grid: Grid, types: Sequence[str], scale: ColorScale, axes: str, *, show_legend: bool) -> list[Spec]:
    """The cells of one stage: bars in the color of their value, and marks that strike out cells within the floor."""
    on_axes = {"xaxis": f"x{axes}", "yaxis": f"y{axes}"}
    above = {at: cell for at, cell in grid.items() if cell.above}
    within = {at: cell for at, cell in grid.items() if not cell.above}
    hover = {"hovertemplate": "%{customdata}<extra></extra>"}

    def text(cells: Grid) -> list[str]:
        return [
            plot_text(f"{_where(*at)}: {small(cell.value)}; floor {small(cell.floor)}") for at, cell in cells.items()
        ]

    cells = {
        "type": "bar",
        "x": [layer for _, layer in above],
        "base": [types.index(name) - 0.46 for name, _ in above],
        "y": [0.92] * len(above),
        "width": 0.94,
        "marker": {"color": [f"@deep/{scale.opacity(cell.value):.3f}" for cell in above.values()]},
        "customdata": text(above),
        "showlegend": False,
    }
    struck_out = {
        "type": "scatter",
        "mode": "markers",
        # An empty trace still has its legend entry, so the reader knows what a struck-out cell would mean.
        "x": [layer for _, layer in within] or [None],
        "y": [types.index(name) for name, _ in within] or [None],
        "marker": {"symbol": "line-ne-open", "size": 9, "color": "@muted", "line": {"width": 1.2, "color": "@muted"}},
        "customdata": text(within) or [""],
        "name": "not above the no-op floor",
        "legendgroup": "struck out",
        "showlegend": show_legend,
    }
    return [cells | on_axes | hover, struck_out | on_axes | hover]


def _layer_axis(layers: Sequence[int], axes: str, *, most: int) -> Spec:
    """The x axis of a panel with at most `most` layer numbers."""
    numbered = [layer for layer in layers if layer != NO_LAYER]
    step = next((step for step in (1, 2, 5, 10, 20) if len(numbered) <= most * step), 50)
    shown = [layer for layer in layers if layer == NO_LAYER or layer % step == 0]
    return axis(
        {
            "title": {"text": "layer (–: none)" if NO_LAYER in layers else "layer"},
            "tickangle": 0,
            "range": [layers[0] - 0.6, layers[-1] + 0.6],
            "tickvals": shown,
            "ticktext": ["–" if layer == NO_LAYER else str(layer) for layer in shown],
            "anchor": f"y{axes}",
            "showgrid": False,
        }
    )


def _type_axis(types: Sequence[str], axes: str, *, named: bool) -> Spec:
    return axis(
        {
            "tickvals": list(range(len(types))),
            "ticktext": [plot_text(_short(name)) for name in types],
            "range": [len(types) - 0.5, -0.5],
            "anchor": f"x{axes}",
            "showgrid": False,
            "showticklabels": named,
            "automargin": True,
        }
    )


def _domain(index: int, count: int, *, gap: float) -> tuple[float, float]:
    """Start and end of one of `count` panels side by side, as shares of the width."""
    width = (1 - gap * (count - 1)) / count
    return round(index * (width + gap), 4), round(index * (width + gap) + width, 4)


def _where(name: str, layer: int) -> str:
    return name if layer == NO_LAYER else f"{name}, layer {layer}"


def _short(name: str) -> str:
    return name if len(name) <= 19 else f"…{name[-18:]}"


def type_order(name: str) -> tuple[int, str]:
    """Sort key of module types."""
    last = name.rsplit(".", 1)[-1]
    return (TYPES.index(last) if last in TYPES else len(TYPES), name)
