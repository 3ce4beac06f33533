"""The accuracy matrices as tables whose cells are colored by score.

Tables, not drawings: they can be read aloud, copied into a paper, and scrolled on a telephone.
"""

from typing import Any

from holdfast.report.numbers import DASH, percent
from holdfast.report.view import MatrixCell, View


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


def _cell(cell: MatrixCell | None, first_of_group: bool) -> dict[str, Any]:
    if cell is None:
        return {"text": "", "title": "not measured", "style": "", "own": False, "sep": first_of_group}
    return {
        "text": percent(cell.mean, 0),
        "title": _title(cell),
        "style": f"--v:{min(1.0, max(0.0, cell.mean)):.3f}",
        "own": cell.own,
        "sep": first_of_group,
    }


def _title(cell: MatrixCell) -> str:
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
