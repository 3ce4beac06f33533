"""The accuracy matrices as tables whose cells are coloured by score.

Tables, not drawings: they can be read aloud, copied into a paper, and scrolled on a telephone.
"""

from typing import Any

from holdfast.report.numbers import DASH, percent
from holdfast.report.view import Cell, View

Rgb = tuple[float, float, float]
# One hue, lightness falling (or rising, on dark) without a turn: told apart in print and with any colour vision.
LIGHT: list[Rgb] = [(244, 247, 250), (176, 208, 232), (90, 158, 208), (8, 81, 140)]
DARK: list[Rgb] = [(30, 36, 45), (33, 68, 104), (48, 122, 180), (142, 203, 248)]


def heat_matrices(view: View) -> list[dict[str, Any]]:
    """One matrix per task order, ready for the template: groups of columns, and one block of rows per recipe."""
    matrices = []
    for order_index in range(len(view.orders)):
        groups = view.sets_in_order(order_index)
        firsts = {members[0]["name"] for _, members in groups}
        names = [s["name"] for _, members in groups for s in members]
        blocks = []
        for arm in view.arms:
            rows = []
            for stage in view.stages(order_index):
                cells = [view.cell(arm, order_index, stage, name) for name in names]
                if any(cells):
                    shown = [_cell(cell, name in firsts) for cell, name in zip(cells, names)]
                    rows.append({"name": view.stage_name(stage, order_index), "cells": shown})
            if rows:
                blocks.append({"arm": arm, "rows": rows})
        if blocks:
            matrices.append({"order": order_index, "groups": groups, "width": len(names), "blocks": blocks})
    return matrices


def _cell(cell: Cell | None, first_of_group: bool) -> dict[str, Any]:
    if cell is None:
        return {"text": "", "title": "not measured", "style": "", "own": False, "sep": first_of_group}
    return {
        "text": percent(cell.mean, 0),
        "title": _title(cell),
        "style": heat_style(cell.mean),
        "own": cell.own,
        "sep": first_of_group,
    }


def _title(cell: Cell) -> str:
    parts = [f"{percent(cell.mean)} %"]
    if cell.low is not None and cell.high is not None:
        spread = f"{percent(cell.low)} to {percent(cell.high)}"
        parts.append(f"{cell.runs} runs, {spread}" if cell.runs > 1 else f"95 % interval over items {spread}")
    if cell.format_ok is not None:
        parts.append(f"well-formed {percent(cell.format_ok, 0)} %")
    if cell.length is not None:
        parts.append(f"{cell.length:.0f} tokens")
    parts.append(f"cut off {percent(cell.truncated)} %" if cell.truncated else "")
    return "; ".join(part for part in parts if part and DASH not in part)


def heat_style(value: float) -> str:
    """Background and text colour of a score in both themes, as CSS variables; the text keeps a contrast of 4.5."""
    light, dark = _mix(LIGHT, value), _mix(DARK, value)
    return f"--l:{_css(light)};--lt:{_ink(light)};--d:{_css(dark)};--dt:{_ink(dark)}"


def _mix(stops: list[Rgb], value: float) -> Rgb:
    at = min(1.0, max(0.0, value)) * (len(stops) - 1)
    i = min(int(at), len(stops) - 2)
    low, high, share = stops[i], stops[i + 1], at - i
    return (
        low[0] + share * (high[0] - low[0]),
        low[1] + share * (high[1] - low[1]),
        low[2] + share * (high[2] - low[2]),
    )


def _css(rgb: Rgb) -> str:
    return "#" + "".join(f"{round(channel):02x}" for channel in rgb)


def _ink(rgb: Rgb) -> str:
    """Black or white, whichever stands out more (relative luminance as in WCAG 2)."""
    linear = [c / 12.92 if (c := x / 255) <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for x in rgb]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000" if luminance > 0.179 else "#fff"
