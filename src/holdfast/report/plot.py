"""What all figures are drawn with: the figure itself, its marks, lines, whiskers and layout.

A color is written "@name" or "@name/opacity" and stands for the page's CSS variable --name, so one specification
serves the light and the dark theme. `meta.arm` on a trace is the recipe that it belongs to; a trace with
`meta.labeled` loses its text on a narrow screen. A figure that is saved leaves the page's legend behind and gets its
own, of all named traces that do not say `showlegend: False`.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.report.numbers import ShownEstimate
from holdfast.report.view import ArmView, CurvePoints, MatrixCell

COLORS = 8

SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "star", "cross", "x", "hexagon"]

GLYPHS = "●■◆▲▼⬟★✚✖⬢"

DASHES = ["solid", "dash", "dot"]

Spec = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        id: unique on the page.
        title: shown above it.
        note: what the reader should know, in a sentence or two.
        alt: what a reader who cannot see it is told.
        headers, rows: the table of what it draws.
        filters: the choices under which it is shown, e.g. {"order": 0}.
        only: index of the arm that it is about, where it is about one.
        drawing: an SVG made here instead of one that plotly makes of `spec`, its colors as in specifications.
    """

    id: str
    title: str
    note: str
    alt: str
    spec: Spec
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    filters: Mapping[str, int] = field(default_factory=dict)
    only: int | None = None
    drawing: str = ""


def color(arm: ArmView) -> str:
    """Name of the CSS variable that holds the arm's color."""
    return f"c{arm.index % COLORS}"


def symbol(arm: ArmView) -> str:
    """The arm's marker; with the colors, 40 arms are told apart."""
    return SYMBOLS[arm.index % len(SYMBOLS)]


def glyph(arm: ArmView) -> str:
    """The arm's marker as a character, for legends outside the figures."""
    return GLYPHS[arm.index % len(GLYPHS)]


def dash(arm: ArmView) -> str:
    """The arm's line style; changes when the colors begin again."""
    return DASHES[arm.index // COLORS % len(DASHES)]


def line(x: Sequence[Any], y: Sequence[Any], shade: str, *, dash: str = "solid", width: float = 2) -> Spec:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(x),
        "y": list(y),
        "line": {"color": f"@{shade}", "width": width, "dash": dash},
    }


def band(series: CurvePoints, arm: ArmView) -> Spec:
    """The area between the smallest and the largest of the runs."""
    xs = [x for x, *_ in series]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": xs + xs[::-1],
        "y": [high for *_, high in series] + [low for _, _, low, _ in reversed(series)],
        "fill": "toself",
        "fillcolor": f"@{color(arm)}/0.16",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
        "meta": {"arm": arm.index},
    }


def whiskers(value: ShownEstimate, arm: ArmView) -> Spec:
    if value.ci95 is None or value.mean is None:
        return {"visible": False}
    low, high = value.ci95
    return {
        "type": "data",
        "symmetric": False,
        "array": [100 * (high - value.mean)],
        "arrayminus": [100 * (value.mean - low)],
        "color": f"@{color(arm)}/0.7",
        "thickness": 1.5,
        "width": 5,
    }


def spread(cells: Sequence[MatrixCell], shade: str) -> Spec:
    return {
        "type": "data",
        "symmetric": False,
        "array": [100 * max(0.0, (c.high or c.mean) - c.mean) for c in cells],
        "arrayminus": [100 * max(0.0, c.mean - (c.low or c.mean)) for c in cells],
        "color": f"@{shade}/0.7",
        "thickness": 1.5,
        "width": 4,
    }


def layout(*, xaxis: Spec, yaxis: Spec, height: int, **more: Any) -> Spec:
    axis = {
        "gridcolor": "@grid",
        "zeroline": False,
        "zerolinecolor": "@line",
        "linecolor": "@line",
        "fixedrange": True,
        "tickfont": {"color": "@muted"},
    }

    def styled(own: Spec) -> Spec:
        title = (
            {"title": {**own["title"], "font": {"color": "@muted", "size": 13}, "standoff": 8}}
            if "title" in own
            else {}
        )
        return {**axis, **own, **title}

    return {
        "height": height,
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "@font", "size": 13, "color": "@fg"},
        "hoverlabel": {"bgcolor": "@surface", "bordercolor": "@line", "font": {"color": "@fg", "family": "@font"}},
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest",
        "xaxis": styled(xaxis),
        "yaxis": styled(yaxis),
        **more,
    }


def plot_text(value: str) -> str:
    """Text that plotly shows as it is: it would take `<` for markup and `%{` for a variable."""
    return html.escape(value, quote=False).replace("{", "&#123;")
