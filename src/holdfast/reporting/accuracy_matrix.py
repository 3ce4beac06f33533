"""The accuracy matrices: HTML tables whose cells are colored by score.

These are tables, not plotly heat maps, on purpose. A screen reader can read them, a reader can copy them into a paper,
and on a narrow screen they scroll sideways at full size.
"""

from typing import Any

from holdfast.reporting.number_format import DASH, percent
from holdfast.reporting.view import MatrixCell, SummaryView


def accuracy_matrices(view: SummaryView) -> list[dict[str, Any]]:
    """One matrix per task order for the template: groups of columns (sets), and a block of rows per recipe."""
    matrices = []
    for order_index in range(len(view.orders)):
        groups = view.sets_in_order(order_index)
        firsts = {members[0]["name"] for _, members in groups}
        names = [s["name"] for _, members in groups for s in members]
        blocks = []
        for recipe in view.recipes:
            rows = []
            for stage in view.stages(order_index):
                cells = [view.cell(recipe, order_index, stage, name) for name in names]
                unjudged = [view.is_unjudged(recipe, order_index, stage, name) for name in names]
                if any(cells) or any(unjudged):
                    shown = [
                        _cell(cell, not_judged, name in firsts)
                        for cell, not_judged, name in zip(cells, unjudged, names)
                    ]
                    rows.append({"name": view.stage_name(stage, order_index), "cells": shown})
            if rows:
                blocks.append({"recipe": recipe, "rows": rows})
        if blocks:
            matrices.append({"order": order_index, "groups": groups, "width": len(names), "blocks": blocks})
    return matrices


def _cell(cell: MatrixCell | None, unjudged: bool, first_of_group: bool) -> dict[str, Any]:
    if cell is None:
        title = "not judged: see the likelihood of its demonstrations" if unjudged else "not measured"
        return {"text": "", "title": title, "style": "", "own": False, "sep": first_of_group}
    return {
        "text": percent(cell.mean, 0) + ("†" if cell.same_answer else ""),
        "title": _title(cell),
        "style": f"--v:{min(1.0, max(0.0, cell.mean)):.3f}",
        "own": cell.own,
        "sep": first_of_group,
    }


def _title(cell: MatrixCell) -> str:
    """The tooltip of a cell."""
    parts = [f"{percent(cell.mean)}%"]
    if cell.low is not None and cell.high is not None:
        spread = f"{percent(cell.low)} to {percent(cell.high)}"
        parts.append(f"{cell.runs} runs, {spread}" if cell.runs > 1 else f"95% CI over items {spread}")
    if cell.format_ok is not None:
        parts.append(f"well-formed {percent(cell.format_ok, 0)}%")
    if cell.length is not None:
        parts.append(f"{cell.length:.0f} tokens")
    parts.append(f"truncated {percent(cell.truncated)}%" if cell.truncated else "")
    parts.append(cell.same_answer)
    return "; ".join(part for part in parts if part and DASH not in part)
