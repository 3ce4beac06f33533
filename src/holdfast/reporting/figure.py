"""What all figures are made of: the figure itself, and the plotly pieces that several figures share.

A color is written "@name" or "@name/opacity". It stands for the page's CSS variable --name, so that one specification
serves the light theme, the dark theme and saved files. `meta.recipe` on a trace is the index of its recipe; the page
hides the trace when that recipe is switched off. On a narrow screen a trace with `meta.labeled` loses its text.

The page has its own legend, the recipe buttons. A saved figure cannot use it, so it gets a plotly legend of all named
traces that do not set `showlegend: False`.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.reporting.number_format import ShownEstimate
from holdfast.reporting.view import CurvePoints, MatrixCell, RecipeView

COLORS = 8
"""Recipe colors in style.css, --c0 to --c7."""

SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "star", "cross", "x", "hexagon"]

GLYPHS = "●■◆▲▼⬟★✚✖⬢"
"""The same markers as characters, for the page's own legend."""

DASHES = ["solid", "dash", "dot"]

Spec = dict[str, Any]
"""A part of a plotly specification, with colors as in the module's docstring."""


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        id: unique on the page.
        title: shown above the figure.
        note: one to three sentences under the title.
        alt: text for a reader who cannot see the figure.
        spec: plotly's "data" and "layout".
        headers, rows: the table of the numbers that the figure shows.
        filters: the choices under which the page shows it, e.g. {"order": 0}.
        only: index of the recipe that the figure is about, if it is about one.
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


def color(recipe: RecipeView) -> str:
    """Name of the CSS variable that holds the recipe's color."""
    return f"c{recipe.index % COLORS}"


def symbol(recipe: RecipeView) -> str:
    """The recipe's plotly marker. Together with the colors, 40 recipes can be told apart."""
    return SYMBOLS[recipe.index % len(SYMBOLS)]


def glyph(recipe: RecipeView) -> str:
    """The recipe's marker as a character."""
    return GLYPHS[recipe.index % len(GLYPHS)]


def dash(recipe: RecipeView) -> str:
    """The recipe's line style; it changes each time the colors start again."""
    return DASHES[recipe.index // COLORS % len(DASHES)]


def line(x: Sequence[Any], y: Sequence[Any], shade: str, *, dash: str = "solid", width: float = 2) -> Spec:
    """A line trace in the color `shade`, without "@"."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(x),
        "y": list(y),
        "line": {"color": f"@{shade}", "width": width, "dash": dash},
    }


def band(series: CurvePoints, recipe: RecipeView) -> Spec:
    """The area between the smallest and the largest run."""
    xs = [x for x, *_ in series]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": xs + xs[::-1],
        "y": [high for *_, high in series] + [low for _, _, low, _ in reversed(series)],
        "fill": "toself",
        "fillcolor": f"@{color(recipe)}/0.16",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
        "meta": {"recipe": recipe.index},
    }


def whiskers(value: ShownEstimate, recipe: RecipeView) -> Spec:
    """Error bars of one mean from its 95% CI, in percent."""
    if value.ci95 is None or value.mean is None:
        return {"visible": False}
    low, high = value.ci95
    return {
        "type": "data",
        "symmetric": False,
        "array": [100 * (high - value.mean)],
        "arrayminus": [100 * (value.mean - low)],
        "color": f"@{color(recipe)}/0.7",
        "thickness": 1.5,
        "width": 5,
    }


def spread(cells: Sequence[MatrixCell], shade: str) -> Spec:
    """Error bars of several matrix entries, in percent."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [100 * max(0.0, (c.high or c.mean) - c.mean) for c in cells],
        "arrayminus": [100 * max(0.0, c.mean - (c.low or c.mean)) for c in cells],
        "color": f"@{shade}/0.7",
        "thickness": 1.5,
        "width": 4,
    }


def axis(settings: Mapping[str, Any]) -> Spec:
    """One axis in the style of the report, with its own settings on top."""
    style = {
        "gridcolor": "@grid",
        "zeroline": False,
        "zerolinecolor": "@line",
        "linecolor": "@line",
        "fixedrange": True,
        "tickfont": {"color": "@muted"},
    }
    title = (
        {"title": {**settings["title"], "font": {"color": "@muted", "size": 13}, "standoff": 8}}
        if "title" in settings
        else {}
    )
    return {**style, **settings, **title}


def layout(*, xaxis: Mapping[str, Any], yaxis: Mapping[str, Any], height: int, **more: Any) -> Spec:
    """A layout in the style of the report; `height` is in pixels."""
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
        "xaxis": axis(xaxis),
        "yaxis": axis(yaxis),
        **more,
    }


def plot_text(value: str) -> str:
    """Text that plotly shows unchanged: unescaped, it would read `<` as markup and `%{` as a variable."""
    return html.escape(value, quote=False).replace("{", "&#123;")
