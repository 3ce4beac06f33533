"""Figures as SVG files without a browser: the part of plotly's specifications that this report uses, drawn by hand.

Scatter traces (lines, marks, text, filled areas, error bars), linear axes with panels below each other, lines,
rectangles and annotations. Colors are those of the page's light theme, because figures are saved for paper.
"""

import html
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.report.numbers import number
from holdfast.report.plot import Figure

WIDTH = 720.0

LEGEND_LEFT, LEGEND_ROW = 48.0, 26.0

DASHES = {"dash": "6 4", "dot": "1.5 3"}

FONT = "Helvetica, Arial, sans-serif"

SHAPES: dict[str, list[tuple[float, float]]] = {
    "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    "triangle-up": [(0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
    "triangle-down": [(0, 1.2), (1.15, -0.9), (-1.15, -0.9)],
    "cross": [(-.4, -1.1), (.4, -1.1), (.4, -.4), (1.1, -.4), (1.1, .4), (.4, .4), (.4, 1.1), (-.4, 1.1), (-.4, .4),
              (-1.1, .4), (-1.1, -.4), (-.4, -.4)],
    "x": [(-1, -.55), (-.55, -1), (0, -.45), (.55, -1), (1, -.55), (.45, 0), (1, .55), (.55, 1), (0, .45), (-.55, 1),
          (-1, .55), (-.45, 0)],
    "pentagon": [(math.sin(2 * math.pi * k / 5) * 1.1, -math.cos(2 * math.pi * k / 5) * 1.1) for k in range(5)],
    "hexagon": [(math.sin(math.pi * k / 3) * 1.1, -math.cos(math.pi * k / 3) * 1.1) for k in range(6)],
    "star": [((1.3 if k % 2 == 0 else 0.55) * math.sin(math.pi * k / 5),
              -(1.3 if k % 2 == 0 else 0.55) * math.cos(math.pi * k / 5)) for k in range(10)],
}  # fmt: skip
"""Corners of plotly's symbols in units of half their size; a circle is one."""


def write_figures(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Write each figure as NAME.svg into a folder, which is made where it is missing; returns the paths."""
    from holdfast.store.files import write_text

    paths = []
    for figure in figures:
        path = Path(folder) / f"{figure.id.removeprefix('fig-')}.svg"
        write_text(path, figure_as_svg(figure))
        paths.append(path)
    return paths


def figure_as_svg(figure: Figure) -> str:
    """The figure as a whole SVG document with title and description, 720 units wide or as wide as its drawing."""
    colors = light_colors()
    if figure.drawing:
        text = re.sub(r'="@([\w-]+)"', lambda m: f'="{FONT if m[1] == "font" else colors[m[1]]}"', figure.drawing)
        start = text.index(">") + 1
        return text[:start] + _about(figure) + '<rect width="100%" height="100%" fill="#fff"/>' + text[start:] + "\n"
    return _Plot(figure, colors).document()


def light_colors() -> dict[str, str]:
    """The light theme's colors by name, from the page's own style sheet."""
    css = (Path(__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    light = css[: css.index('[data-theme="dark"]')]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})\b", light))


def _about(figure: Figure) -> str:
    told = html.escape(f"{figure.note} {figure.alt}".strip())
    return f"<title>{html.escape(figure.title)}</title><desc>{told}</desc>"


class _Axis:
    """A linear axis: data to pixels, and its ticks; words are placed at 0, 1, 2, …"""

    def __init__(self, spec: Mapping[str, Any], values: Sequence[Any], start: float, end: float) -> None:
        self.spec, self.start, self.end = spec, start, end
        self.words: list[str] = list(dict.fromkeys(v for v in values if isinstance(v, str)))
        numbers = [x for v in values if (x := number(v)) is not None]
        if self.words:
            low, high = -0.5, len(self.words) - 0.5
            if spec.get("autorange") == "reversed":
                low, high = high, low
        elif spec.get("range"):
            low, high = spec["range"]
        else:
            low, high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
            if spec.get("rangemode") == "tozero":
                low, high = min(low, 0.0), max(high, 0.0)
            air = 0.06 * ((high - low) or 1.0)
            low = low if spec.get("rangemode") == "tozero" and low == 0 else low - air
            high += air
        self.low, self.high = float(low), float(high)

    def at(self, value: Any) -> float:
        where = self.words.index(value) if isinstance(value, str) else float(value)
        return self.start + (self.end - self.start) * (where - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        if self.words:
            return [(self.at(w), w) for w in self.words]
        if "tickvals" in self.spec:
            return [(self.at(v), str(t)) for v, t in zip(self.spec["tickvals"], self.spec["ticktext"])]
        low, high = sorted((self.low, self.high))
        step = float(self.spec.get("dtick") or _nice((high - low) / 6))
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first = math.ceil(low / step - 1e-9)
        values = [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]
        return [(self.at(v), _tick(v, digits)) for v in values]


def _nice(step: float) -> float:
    """The next larger of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next((m * power for m in (1, 2, 5) if m * power >= step * (1 - 1e-9)), 10 * power)


def _tick(value: float, digits: int) -> str:
    if value and digits > 4:
        return f"{value:.0e}".replace("e-0", "e-").replace("-", "−")
    return f"{value + 0.0:.{digits}f}".replace("-", "−")


class _Plot:
    """One specification being drawn."""

    def __init__(self, figure: Figure, colors: Mapping[str, str]) -> None:
        self.figure, self.colors = figure, colors
        self.layout, self.data = figure.spec["layout"], figure.spec["data"]
        named = [t for t in self.data if t.get("name") and t.get("showlegend") is not False]
        self.legend = _in_rows(named) if len(named) > 1 else []
        margin = self.layout["margin"]
        self.right, self.top = WIDTH - max(20.0, margin["r"]), margin["t"] + LEGEND_ROW * len(self.legend)
        self.bottom = self.top + self.layout["height"] - margin["t"] - margin["b"]
        self.ys: dict[str, _Axis] = {}
        for key, spec in self.layout.items():
            if re.fullmatch(r"yaxis\d*", key):
                low, high = spec.get("domain", (0, 1))
                ends = (self.bottom - f * (self.bottom - self.top) for f in (low, high))
                name = key.replace("axis", "")
                self.ys[name] = _Axis(spec, self._values("y", name), *ends)
        widest = max((len(text) for axis in self.ys.values() for _, text in axis.ticks()), default=0)
        self.left = 34.0 + 7.2 * widest
        self.x = _Axis(self.layout["xaxis"], self._values("x"), self.left, self.right)

    def _values(self, key: str, axis: str | None = None) -> list[Any]:
        found: list[Any] = []
        for trace in self.data:
            if axis is not None and trace.get("yaxis", "y") != axis:
                continue
            values = list(trace.get(key, []))
            found += values
            bars = trace.get(f"error_{key}") or {}
            for value, up in zip(values, bars.get("array") or []):
                found += [value + up] if number(value) is not None else []
            for value, down in zip(values, bars.get("arrayminus") or bars.get("array") or []):
                found += [value - down] if number(value) is not None else []
        return found

    def document(self) -> str:
        high = self.bottom + 52
        parts = [self._grid(), *(self._shape(s) for s in self.layout.get("shapes", []))]
        parts += [self._trace(t) for t in self.data]
        parts += [self._annotation(a) for a in self.layout.get("annotations", [])]
        parts.append(self._legend())
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH:.0f}" height="{high:.0f}" '
            f'viewBox="0 0 {WIDTH:.0f} {high:.0f}" font-family="{FONT}" font-size="13">{_about(self.figure)}'
            f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
        )

    def _paint(self, token: Any, kind: str) -> str:
        name, _, opacity = str(token).lstrip("@").partition("/")
        color = self.colors.get(name, "none")
        return f'{kind}="{color}"' + (f' {kind}-opacity="{opacity}"' if opacity else "")

    def _line(self, x0: float, y0: float, x1: float, y1: float, edge: Mapping[str, Any]) -> str:
        dash = f' stroke-dasharray="{DASHES[edge["dash"]]}"' if edge.get("dash") in DASHES else ""
        return (
            f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" {self._paint(edge["color"], "stroke")} '
            f'stroke-width="{edge.get("width", 1)}"{dash}/>'
        )

    def _text(self, x: float, y: float, text: str, color: str, anchor: str, size: float = 12.5, more: str = "") -> str:
        bold = ' font-weight="600"' if "<b>" in text else ""
        plain = html.unescape(re.sub(r"</?b>", "", text)).strip()
        return (
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" {self._paint(color, "fill")}'
            f"{bold}{more}>{html.escape(plain)}</text>"
        )

    def _grid(self) -> str:
        parts, grid, edge = [], {"color": "@grid"}, {"color": "@line"}
        for x, text in self.x.ticks():
            parts.append(self._text(x, self.bottom + 18, text, "@muted", "middle"))
            if self.layout["xaxis"].get("showgrid", True):
                parts += [self._line(x, axis.start, x, axis.end, grid) for axis in self.ys.values()]
        for axis in self.ys.values():
            for y, text in axis.ticks():
                parts.append(self._text(self.left - 8, y + 4, text, "@muted", "end"))
                if axis.spec.get("showgrid", True):
                    parts.append(self._line(self.left, y, self.right, y, grid))
            middle = (axis.start + axis.end) / 2
            title = (axis.spec.get("title") or {}).get("text", "")
            turned = f' transform="rotate(-90 16 {middle:.1f})"'
            parts.append(self._text(16, middle, title, "@muted", "middle", more=turned) if title else "")
            parts.append(self._line(self.left, axis.start, self.right, axis.start, edge))
            parts.append(self._line(self.left, axis.start, self.left, axis.end, edge))
        title = (self.layout["xaxis"].get("title") or {}).get("text", "")
        parts.append(self._text((self.left + self.right) / 2, self.bottom + 40, title, "@muted", "middle"))
        return "".join(parts)

    def _shape(self, shape: Mapping[str, Any]) -> str:
        def across(value: float) -> float:
            return self.left + value * (self.right - self.left) if shape.get("xref") == "paper" else self.x.at(value)

        def up(value: float) -> float:
            if shape.get("yref") == "paper":
                return self.bottom - value * (self.bottom - self.top)
            return self.ys["y"].at(value)

        x0, x1, y0, y1 = across(shape["x0"]), across(shape["x1"]), up(shape["y0"]), up(shape["y1"])
        if shape["type"] == "line":
            return self._line(x0, y0, x1, y1, shape["line"])
        return (
            f'<rect x="{min(x0, x1):.1f}" y="{min(y0, y1):.1f}" width="{abs(x1 - x0):.1f}" height="{abs(y1 - y0):.1f}" '
            f"{self._paint(shape['fillcolor'], 'fill')}/>"
        )

    def _annotation(self, note: Mapping[str, Any]) -> str:
        paper = note.get("yref") == "paper"
        y = self.bottom - note["y"] * (self.bottom - self.top) if paper else self.ys["y"].at(note["y"])
        anchor = "start" if note.get("xanchor") == "left" else "middle"
        font = note.get("font") or {}
        return self._text(
            self.x.at(note["x"]) + (4 if anchor == "start" else 0),
            y - 4,
            note["text"],
            font.get("color", "@fg"),
            anchor,
        )

    def _trace(self, trace: Mapping[str, Any]) -> str:
        y_axis = self.ys[trace.get("yaxis", "y")]
        points = [
            (self.x.at(x), y_axis.at(y)) for x, y in zip(trace["x"], trace["y"]) if x is not None and y is not None
        ]
        parts, mode = [], str(trace.get("mode", "lines"))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        if trace.get("fill") == "toself":
            return f'<polygon points="{path}" {self._paint(trace["fillcolor"], "fill")}/>'
        if "lines" in mode and len(points) > 1:
            edge = trace["line"]
            dash = f' stroke-dasharray="{DASHES[edge["dash"]]}"' if edge.get("dash") in DASHES else ""
            parts.append(
                f'<polyline points="{path}" fill="none" {self._paint(edge["color"], "stroke")} '
                f'stroke-width="{edge.get("width", 2)}" stroke-linejoin="round"{dash}/>'
            )
        parts += [self._bars(trace, key, y_axis) for key in ("x", "y")]
        if "markers" in mode:
            parts += [self._mark(x, y, trace["marker"]) for x, y in points]
        if "text" in mode:
            parts += [self._label(trace, x, y, text) for (x, y), text in zip(points, trace["text"]) if text]
        return "".join(parts)

    def _bars(self, trace: Mapping[str, Any], key: str, y_axis: _Axis) -> str:
        bars = trace.get(f"error_{key}") or {}
        parts = []
        for k, up in enumerate(bars.get("array") or []):
            down = (bars.get("arrayminus") or bars["array"])[k]
            x, y, edge = trace["x"][k], trace["y"][k], {"color": bars["color"], "width": bars["thickness"]}
            if key == "x":
                low, high = (min(max(self.x.at(v), self.left), self.right) for v in (x - down, x + up))
                parts.append(self._line(low, y_axis.at(y), high, y_axis.at(y), edge))
            else:
                parts.append(self._line(self.x.at(x), y_axis.at(y - down), self.x.at(x), y_axis.at(y + up), edge))
        return "".join(parts)

    def _mark(self, x: float, y: float, marker: Mapping[str, Any]) -> str:
        symbol, half = str(marker.get("symbol", "circle")), float(marker.get("size", 8)) / 2
        hollow = symbol.endswith("-open")
        edge = marker.get("line") or {}
        paint = 'fill="#fff"' if hollow else self._paint(marker["color"], "fill")
        if hollow or edge:
            rim = self._paint(marker["color"] if hollow else edge["color"], "stroke")
            paint += f' {rim} stroke-width="{edge.get("width", 1.5)}"'
        corners = SHAPES.get(symbol.removesuffix("-open"))
        if corners is None:
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{half:.1f}" {paint}/>'
        return f'<polygon points="{" ".join(f"{x + a * half:.1f},{y + b * half:.1f}" for a, b in corners)}" {paint}/>'

    def _label(self, trace: Mapping[str, Any], x: float, y: float, text: str) -> str:
        up, _, side = str(trace.get("textposition", "middle center")).partition(" ")
        half = float((trace.get("marker") or {}).get("size", 0)) / 2 + 3
        anchor = {"right": "start", "left": "end"}.get(side, "middle")
        dx = {"right": half, "left": -half}.get(side, 0.0)
        dy = {"top": -half - 2, "bottom": half + 10}.get(up, 4.5)
        return self._text(x + dx, y + dy, text, trace["textfont"]["color"], anchor)

    def _legend(self) -> str:
        parts = []
        for row, traces in enumerate(self.legend):
            x, y = LEGEND_LEFT, 14 + LEGEND_ROW * row
            for trace in traces:
                if "lines" in str(trace.get("mode", "lines")):
                    parts.append(self._line(x, y, x + 16, y, trace["line"]))
                if "markers" in str(trace.get("mode")):
                    parts.append(self._mark(x + 8, y, trace["marker"]))
                parts.append(self._text(x + 22, y + 4.5, str(trace["name"]), "@fg", "start"))
                x += _legend_width(trace)
        return "".join(parts)


def _legend_width(trace: Mapping[str, Any]) -> float:
    return 40 + 7.4 * len(html.unescape(str(trace["name"])))


def _in_rows(traces: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """A legend's entries in rows as wide as the drawing."""
    rows: list[list[Mapping[str, Any]]] = [[]]
    for trace in traces:
        if rows[-1] and sum(map(_legend_width, [*rows[-1], trace])) > WIDTH - LEGEND_LEFT:
            rows.append([])
        rows[-1].append(trace)
    return rows
