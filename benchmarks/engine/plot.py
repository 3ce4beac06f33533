"""The results as one SVG picture without outside links: ratios of time and memory, and the scaling table's curves."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.engine.table import seconds, size

WIDTH, LABEL, RIGHT = 960, 300, 110
ROW, BAR, GAP = 34, 10, 40
PANEL_WIDTH, PANEL_HEIGHT = 300, 170
TIME, MEMORY, PEER = "#2f6fab", "#d08a2e", "#8a8f98"
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.t{font-weight:600;font-size:14px}.m{fill:#777}"
    ".g{stroke:#ddd;stroke-width:1}.one{stroke:#999;stroke-dasharray:3 3}.w{stroke:#222;stroke-width:1}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.m{fill:#999}.g{stroke:#444}.w{stroke:#eee}rect.b{fill:#16181c}}"
    "rect.b{fill:#fff}"
)


def draw(records: Sequence[Mapping[str, Any]], title: str) -> str:
    """The picture as text."""
    compared = [r for r in records if "axis" not in r and "time_ratio" in r]
    axes = list(dict.fromkeys(r["axis"] for r in records if "axis" in r and "time_ratio" in r))
    parts = [f'<text x="16" y="26" class="t">{html.escape(title)}</text>']
    y = 50
    if compared:
        bars, y = _bars(compared, y)
        parts += bars
    for measure, name in (("seconds", "seconds per step"), ("peak_bytes", "peak bytes")):
        if not axes:
            break
        parts.append(f'<text x="16" y="{y + 14}" class="t">Scaling: {name} (ours in color, TRL in gray)</text>')
        y += 24
        for index, axis in enumerate(axes):
            points = [r for r in records if r.get("axis") == axis and "time_ratio" in r]
            left, top = 16 + index % 3 * (PANEL_WIDTH + 12), y + index // 3 * (PANEL_HEIGHT + GAP)
            parts += _panel(points, axis, measure, left, top)
        y += math.ceil(len(axes) / 3) * (PANEL_HEIGHT + GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 16}" role="img" '
        f'aria-label="{html.escape(title)}"><style>{STYLE}</style>'
        f'<rect class="b" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


def _bars(records: Sequence[Mapping[str, Any]], top: int) -> tuple[list[str], int]:
    """Horizontal bars on a logarithmic axis around 1, time above memory, with the range of repeats."""
    values = [v for r in records for v in (*r["spread"], r["memory_ratio"]) if v]
    low, high = math.log2(min(0.5, *values)), math.log2(max(2.0, *values))

    def x(value: float) -> float:
        return LABEL + (math.log2(value) - low) / (high - low) * (WIDTH - LABEL - RIGHT)

    bottom = top + 24 + ROW * len(records)
    parts = [
        f'<text x="16" y="{top + 10}">The peer\'s <tspan fill="{TIME}">time</tspan> and '
        f'<tspan fill="{MEMORY}">memory</tspan> over ours; right of 1 is in our favor</text>'
    ]
    for power in range(math.ceil(low), math.floor(high) + 1):
        at, style = x(2.0**power), "one" if power == 0 else "g"
        parts.append(f'<line class="{style}" x1="{at:.1f}" x2="{at:.1f}" y1="{top + 20}" y2="{bottom}"/>')
        parts.append(f'<text class="m" x="{at:.1f}" y="{bottom + 14}" text-anchor="middle">{2.0**power:g}</text>')
    for index, record in enumerate(records):
        y = top + 26 + ROW * index
        parts.append(f'<text x="{LABEL - 8}" y="{y + 14}" text-anchor="end">{html.escape(record["name"])}</text>')
        for offset, value, fill in ((0, record["time_ratio"], TIME), (BAR + 2, record["memory_ratio"], MEMORY)):
            if not value:
                continue
            start, end = sorted((x(1.0), x(value)))
            parts.append(
                f'<rect x="{start:.1f}" y="{y + offset}" width="{end - start:.1f}" height="{BAR}" fill="{fill}"/>'
                f'<text x="{max(end, x(1.0)) + 6:.1f}" y="{y + offset + 9}" font-size="10">{value:.3g}</text>'
            )
        near, far = (x(value) for value in record["spread"])
        parts.append(f'<line class="w" x1="{near:.1f}" x2="{far:.1f}" y1="{y + BAR / 2}" y2="{y + BAR / 2}"/>')
    return parts, bottom + GAP


def _panel(points: Sequence[Mapping[str, Any]], axis: str, measure: str, left: int, top: int) -> list[str]:
    """Both sides' curves of one measure along one axis, both axes logarithmic."""
    series = {
        side: [(float(p["value"]), float(p[side][measure])) for p in points if p[side][measure]]
        for side in ("peer", "ours")
    }
    every = [point for curve in series.values() for point in curve]
    if not every:
        return []
    shown = (lambda value: size(int(value))) if measure == "peak_bytes" else seconds
    (x0, x1), (y0, y1) = ((math.log(min(v)), math.log(max(v))) for v in zip(*every))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = (math.log(point[0]) - x0) / ((x1 - x0) or 1)
        up = (math.log(point[1]) - y0) / ((y1 - y0) or 1)
        return left + 20 + across * (PANEL_WIDTH - 40), top + PANEL_HEIGHT - 30 - up * (PANEL_HEIGHT - 60)

    parts = [
        f'<rect x="{left}" y="{top}" width="{PANEL_WIDTH}" height="{PANEL_HEIGHT}" fill="none" class="g"/>',
        f'<text x="{left + 8}" y="{top + 16}">{html.escape(axis)}</text>',
    ]
    for side, curve in series.items():
        fill = (TIME if measure == "seconds" else MEMORY) if side == "ours" else PEER
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, curve))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{fill}" stroke-width="2"/>')
        for point in curve:
            x, y = place(point)
            label = f"{side}: {axis} {point[0]:g}, {shown(point[1])}"
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{fill}"><title>{label}</title></circle>')
        for point in (curve[0], curve[-1]) if curve else ():
            x, y = place(point)
            parts.append(f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{shown(point[1])}</text>')
    for value in dict.fromkeys(point[0] for point in every):
        x, _ = place((value, every[0][1]))
        parts.append(f'<text class="m" x="{x:.1f}" y="{top + PANEL_HEIGHT - 8}" text-anchor="middle">{value:g}</text>')
    return parts
