"""The heat maps of drift: a cell for every matrix, module types by layers, a panel per stage, against the floor."""

import html
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from holdfast.report.numbers import number, small
from holdfast.report.plot import Figure
from holdfast.report.view import ArmView, View

MEASURES = {"relative_norm": "Relative norm of the update", "spectral_shift": "Normalized spectral shift"}

ROWS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""Module types in the order in which a layer applies them; others follow by name."""

GUTTER, CELL_HEIGHT, WIDEST = 132, 21, 1010

SMALLEST = 15
"""Width of a cell below which panels stand below each other rather than beside each other."""


@dataclass(frozen=True)
class Scale:
    """Values to shades, the same over all maps of a measure; logarithmic where they span more than a factor of 30."""

    low: float
    high: float
    log: bool

    @classmethod
    def over(cls, view: View, key: str) -> "Scale | None":
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

    def shade(self, value: float) -> float:
        if self.high <= self.low:
            return 1.0
        if self.log:
            at = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            at = (value - self.low) / (self.high - self.low)
        return 0.06 + 0.94 * min(1.0, max(0.0, at))


@dataclass(frozen=True)
class _Place:
    """A matrix's (or several experts') value and floor, mean over runs."""

    value: float
    floor: float

    @property
    def above(self) -> bool:
        return self.value > self.floor


def heat_map(
    view: View,
    arm: ArmView,
    order_index: int,
    key: str,
    place: int,
    stages: Mapping[int, Sequence[Mapping[str, Any]]],
    scale: Scale,
) -> Figure | None:
    """Module types by layers, a panel per stage."""
    grids = {stage: _grid(entries, key) for stage, entries in stages.items()}
    grids = {stage: grid for stage, grid in grids.items() if grid}
    if not grids:
        return None
    layers = 1 + max(layer for grid in grids.values() for _, layer in grid)
    types = sorted({name for grid in grids.values() for name, _ in grid}, key=type_order)
    cells = [p for grid in grids.values() for p in grid.values()]
    above, floor = sum(p.above for p in cells), max(p.floor for p in cells)
    drawing = _draw(view, order_index, grids, types, layers, scale, floor)
    spread = "logarithmic" if scale.log else "linear"
    return Figure(
        id=f"fig-layers-{arm.index}-{order_index}-{place}",
        title=f"{MEASURES[key]}, {arm.label}" if len(view.arms) > 1 else MEASURES[key],
        note=f"One cell per matrix, mean over runs where there are several; {spread} scale, the same for every recipe. "
        "Struck-out cells are not above their own no-op floor.",
        alt=f"Heat map of the {MEASURES[key].lower()} of {arm.label} by module type and layer, "
        f"{len(grids)} stages. {above} of {len(cells)} cells are above the floor.",
        spec={},
        headers=("Matrix", *(f"after {stage}" for stage in grids), "Floor"),
        rows=tuple(
            (
                f"{name}, layer {layer}" if layer >= 0 else name,
                *(small(g[name, layer].value if (name, layer) in g else None) for g in grids.values()),
                small(next((g[name, layer].floor for g in grids.values() if (name, layer) in g), None)),
            )
            for name in types
            for layer in range(-1, layers)
            if any((name, layer) in g for g in grids.values())
        ),
        filters={"recipe": arm.index, "order": order_index, "measure": place},
        drawing=drawing,
    )


def _grid(entries: Sequence[Mapping[str, Any]], key: str) -> dict[tuple[str, int], _Place]:
    """Value and floor by (type, layer); -1 for what is in no layer."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for entry in entries:
        for m in entry.get("matrices") or []:
            value, layer = number(m.get(key)), m.get("layer")
            if value is not None:
                found[str(m["type"]), -1 if layer is None else int(layer)].append(
                    (value, number(m.get(f"floor_{key}")) or 0.0)
                )
    return {at: _Place(fmean(v for v, _ in both), fmean(f for _, f in both)) for at, both in found.items()}


def _draw(
    view: View,
    order_index: int,
    grids: Mapping[int, Mapping[tuple[str, int], _Place]],
    types: Sequence[str],
    layers: int,
    scale: Scale,
    floor: float,
) -> str:
    """The panels as one SVG: as many beside each other as fit, types named on the left of each row of panels."""
    alone = [name for name in types if all((name, -1) in g for g in grids.values() if any(t == name for t, _ in g))]
    rows = [name for name in types if name not in alone] + alone
    room = WIDEST - GUTTER + 28
    beside = max(1, min(len(grids), int(room // (max(layers * SMALLEST, 150) + 28))))
    cell = min(38.0, max(8.0, (room / beside - 28) / max(layers, 1)))
    wide = max(layers * cell, 150.0)
    high = 30 + CELL_HEIGHT * len(rows) + (22 if alone else 18) + 26
    width = max(GUTTER + beside * (wide + 28) - 20, 620)
    parts: list[str] = []
    for index, (stage, grid) in enumerate(grids.items()):
        left, top = GUTTER + index % beside * (wide + 28), index // beside * high
        parts.append(_text(left, top + 16, view.stage_name(stage, order_index), weight=600))
        for r, name in enumerate(rows):
            y = top + 26 + r * CELL_HEIGHT + (22 if name in alone else 0)
            if index % beside == 0:
                parts.append(_text(GUTTER - 8, y + 14.5, _short(name), anchor="end", size=11.5))
            for layer in [-1] if name in alone else range(layers):
                if (name, layer) in grid:
                    where = f"{name}, layer {layer}" if layer >= 0 else name
                    parts.append(_cell(grid[name, layer], left + max(layer, 0) * cell, y, cell, where, scale))
            if name in alone and (name, -1) in grid:
                parts.append(_text(left + cell + 6, y + 14.5, small(grid[name, -1].value), muted=True, size=11.5))
        base = top + 26 + CELL_HEIGHT * (len(rows) - len(alone))
        for layer in range(0, layers, _layer_step(layers, cell)):
            middle = left + (layer + 0.5) * cell
            parts.append(_text(middle, base + 13, str(layer), anchor="middle", muted=True, size=11))
        if index % beside == 0:
            parts.append(_text(GUTTER - 8, base + 13, "layer", anchor="end", muted=True, size=11))
    total = math.ceil(len(grids) / beside) * high
    parts.append(_legend(total, scale, floor))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{total + 54}" '
        f'viewBox="0 0 {width:.0f} {total + 54}" font-family="@font" font-size="12.5">{"".join(parts)}</svg>'
    )


def _layer_step(layers: int, cell: float) -> int:
    return next((step for step in (1, 2, 5, 10, 20, 50) if step * cell >= 24), 100) if layers > 1 else 1


def _cell(place: _Place, x: float, y: float, cell: float, where: str, scale: Scale) -> str:
    told = f"{where}: {small(place.value)}; floor {small(place.floor)}"
    box = f"M{x:.1f} {y}h{cell - 1:.1f}v{CELL_HEIGHT - 1}h{1 - cell:.1f}z"
    title = f"<title>{html.escape(told)}</title>"
    if place.above:
        return f'<path d="{box}" fill="@deep" fill-opacity="{scale.shade(place.value):.2f}">{title}</path>'
    across = f"M{x + 2:.1f} {y + CELL_HEIGHT - 3}L{x + cell - 3:.1f} {y + 2}"
    return f'<g>{title}<path d="{box}" fill="@raised"/><path d="{across}" stroke="@muted" stroke-opacity="0.5"/></g>'


def _legend(top: float, scale: Scale, floor: float) -> str:
    """The scale with its ends and, where it lies on the scale, the floor; and a struck-out cell."""
    left, wide, steps = GUTTER, 180, 20
    parts = [
        f'<rect x="{left + k * wide / steps:.1f}" y="{top + 18}" width="{wide / steps:.1f}" height="11" fill="@deep" '
        f'fill-opacity="{0.06 + 0.94 * k / (steps - 1):.2f}"/>'
        for k in range(steps)
    ]
    parts.append(_text(left, top + 43, small(scale.low), muted=True, size=11))
    parts.append(_text(left + wide, top + 43, small(scale.high), anchor="end", muted=True, size=11))
    if scale.low < floor < scale.high:
        x = left + wide * (scale.shade(floor) - 0.06) / 0.94
        parts.append(f'<path d="M{x:.1f} {top + 14}v19" stroke="@fg" stroke-width="1.5"/>')
        parts.append(_text(x, top + 10, f"floor {small(floor)}", anchor="middle", size=11))
    x = left + wide + 28
    parts.append(
        f'<path d="M{x} {top + 14}h20v20h-20z" fill="@raised"/>'
        f'<path d="M{x + 2} {top + 32}L{x + 18} {top + 16}" stroke="@muted" stroke-opacity="0.5"/>'
    )
    told = "not above the no-op floor" if floor > 0 else "not above the no-op floor, which is 0"
    parts.append(_text(x + 28, top + 28, told, muted=True, size=11.5))
    return "".join(parts)


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: float = 12.5, muted: bool = False, weight: int = 400
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="@{"muted" if muted else "fg"}">{html.escape(text)}</text>'
    )


def _short(name: str) -> str:
    return name if len(name) <= 19 else f"…{name[-18:]}"


def type_order(name: str) -> tuple[int, str]:
    last = name.rsplit(".", 1)[-1]
    return (ROWS.index(last) if last in ROWS else len(ROWS), name)
