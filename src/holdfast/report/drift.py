"""How far the weights moved: along the stream, by module type, and matrix by matrix against the no-op floor."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from holdfast.report.layers import MEASURES, Scale, heat_map, type_order
from holdfast.report.numbers import DASH, average, percent, small
from holdfast.report.plot import Figure, Spec, band, color, dash, layout, line, plot_text, symbol
from holdfast.report.view import ArmView, RunView, View, over_runs

MEANINGS = {
    "relative_norm": "Relative norm: ‖ΔW‖ over ‖W₀‖ (Frobenius), over all entries",
    "spectral_shift": "Spectral shift: ‖σ(W) − σ(W₀)‖ over ‖σ(W₀)‖, of the singular values; median over the matrices "
    "that moved",
}

COLUMNS = [
    ("relative_norm", "Relative norm", small),
    ("unchanged", "Unchanged, %", percent),
    ("spectral_shift", "Spectral shift", small),
    ("left_angle", "Left angle, °", small),
    ("right_angle", "Right angle, °", small),
    ("stable_rank", "Stable rank", small),
    ("principal_overlap", "Principal mask kept, %", percent),
    ("principal_changed", "Of it changed, %", percent),
    ("changes_in_principal", "Changes in it, %", percent),
    ("changes_in_low", "Changes in low, %", percent),
]

BESIDE = {
    "spectral_shift": ("mean", "spectral_shift_mean"),
    "left_angle": ("largest", "left_angle_largest"),
    "right_angle": ("largest", "right_angle_largest"),
}
"""What the papers give stands small beside the median: NSS averaged, and the largest angle of all."""


def drift_blocks(view: View) -> dict[str, Any]:
    """The figures along the stream, a table per recipe and stage, and the heat maps."""
    panels, maps = [], []
    along = [f for i in range(len(view.orders)) for key in MEASURES if (f := _along(view, i, key)) is not None]
    scales = {key: Scale.over(view, key) for key in MEASURES}
    for arm in view.arms:
        for order_index in range(len(view.orders)):
            stages = {s: found for s in view.stages(order_index) if (found := _entries(arm, order_index, s))}
            for stage, entries in stages.items():
                panels.append(_table(view, arm, order_index, stage, entries))
            for place, (key, scale) in enumerate(scales.items()):
                drawn = heat_map(view, arm, order_index, key, place, stages, scale) if scale else None
                if drawn:
                    maps.append(drawn)
    used = sorted({panel["stage"] for panel in panels})
    return {
        "along": along,
        "panels": panels,
        "maps": maps,
        "stages": [(s, f"after stage {s}") for s in used],
        "last": used[-1] if used else 0,
        "measures": list(enumerate(MEASURES.values())),
        "recipes": [(arm.index, arm.label) for arm in view.arms if any(p["recipe"] == arm.index for p in panels)],
    }


def _entries(arm: ArmView, order_index: int, stage: int) -> list[Mapping[str, Any]]:
    """What each run of the arm has measured against the base after a stage."""
    return [
        entry
        for run in arm.of_order(order_index)
        for entry in run.summary.get("drift") or []
        if entry.get("stage") == stage and entry.get("against", "base") == "base"
    ]


def _along(view: View, order_index: int, key: str) -> Figure | None:
    """One measure over all weights by stage, a line per recipe, and the floor."""
    traces: list[Spec] = []
    told: list[str]
    columns: dict[str, dict[float, float]]
    finals: dict[int, float]
    told, columns, floors, finals, tops = [], {}, [], {}, []

    def of(run: RunView, block: str) -> Iterator[tuple[float, Any]]:
        for entry in run.summary.get("drift") or []:
            if entry.get("against", "base") == "base":
                yield float(entry["stage"]), (entry.get(block) or {}).get(key)

    for arm in view.arms:
        runs = arm.of_order(order_index)
        series = over_runs(runs, lambda run: of(run, "overall"))
        floors += over_runs(runs, lambda run: of(run, "floor"))
        if not series:
            continue
        finals[arm.index] = series[-1][1]
        tops.append(max(high for *_, high in series))
        columns[arm.label] = {x: y for x, y, *_ in series}
        told.append(f"{arm.label}: {small(series[-1][1])} after stage {series[-1][0]:g}")
        if any(high > low for _, _, low, high in series):
            traces.append(band(series, arm))
        traces.append(
            line([x for x, *_ in series], [y for _, y, *_ in series], color(arm), dash=dash(arm))
            | {
                "mode": "lines+markers",
                "marker": {"color": f"@{color(arm)}", "symbol": symbol(arm), "size": 8},
                "cliponaxis": False,
                "name": plot_text(arm.label),
                "showlegend": False,
                "hovertemplate": "%{y:.3g} after stage %{x}<extra>%{fullData.name}</extra>",
                "meta": {"arm": arm.index},
            }
        )
    if not traces:
        return None
    stages = sorted({x for column in columns.values() for x in column})
    floor = max((high for *_, high in floors), default=None)
    if floor:
        flat = line([0, stages[-1]], [floor, floor], "muted", dash="dot", width=1.5)
        traces.append(flat | {"name": "no-op floor", "showlegend": False, "hoverinfo": "skip"})
    top = 1.06 * max(*tops, floor or 0.0) or 1.0
    if len(view.arms) > 1:
        traces += _labels(view, stages[-1], finals, top)
    right = 16 + (8 * max(len(arm.label) for arm in view.arms) if len(view.arms) > 1 else 0)
    note = {"x": 0, "xanchor": "left", "y": floor, "yanchor": "bottom", "text": "no-op floor", "showarrow": False}
    return Figure(
        id=f"fig-drift-{key.replace('_', '-')}-{order_index}",
        title=MEASURES[key],
        note=f"{MEANINGS[key]}. {_floor_text(floor)}",
        alt=f"{MEASURES[key]} by stage. {'; '.join(told)}. {_floor_text(floor)}",
        spec={
            "data": traces,
            "layout": layout(
                height=300,
                margin={"l": 56, "r": right, "t": 16, "b": 44},
                xaxis={"title": {"text": "After stage"}, "range": [0, stages[-1] + 0.04], "dtick": 1},
                yaxis={"title": {"text": MEASURES[key].lower()}, "range": [0, top], "automargin": True, "nticks": 6,
                       "exponentformat": "power"},
                annotations=[note | {"font": {"color": "@muted", "size": 12}}] if floor else [],
            ),
        },
        headers=("After stage", *columns, "Floor"),
        rows=tuple(
            (f"{s:g}", *(small(column.get(s)) for column in columns.values()), small(floor)) for s in stages
        ),
        filters={"order": order_index},
    )  # fmt: skip


def _labels(view: View, x: float, finals: Mapping[int, float], top: float) -> list[Spec]:
    """Each recipe's name beside its line's end, moved apart where they would cover each other."""
    apart, below = 0.065 * top, -top
    traces = []
    for index, y in sorted(finals.items(), key=lambda item: item[1]):
        below = max(y, below + apart)
        arm = view.arms[index]
        traces.append(
            {
                "type": "scatter",
                "mode": "text",
                "x": [x],
                "y": [below],
                "text": [f"  <b>{plot_text(arm.label)}</b>"],
                "textposition": "middle right",
                "textfont": {"color": f"@{color(arm)}"},
                "cliponaxis": False,
                "hoverinfo": "skip",
                "showlegend": False,
                "meta": {"arm": index},
            }
        )
    return traces


def _floor_text(floor: float | None) -> str:
    if floor is None:
        return "No floor was measured."
    if floor == 0:
        return "The no-op floor is exactly zero: converting the base to the model's storage and back changes nothing."
    return f"Converting the base to the model's storage and back reads as {small(floor)}, the no-op floor."


def _table(
    view: View, arm: ArmView, order_index: int, stage: int, entries: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Every measure by module type, mean over runs, with all weights first and the floor last.

    A row is its name, what is to be known of it, and per column the value and what stands small beside it.
    """
    types = sorted({name for e in entries for name in e.get("by_type") or {}}, key=type_order)
    named = [("All weights", [e.get("overall") or {} for e in entries])]
    named += [(t, [(e.get("by_type") or {}).get(t) or {} for e in entries]) for t in types]
    named += [("No-op floor", [e.get("floor") or {} for e in entries])]
    rows = []
    for name, found in named:
        rows.append((name, _unmoved(found), [_cell(found, key, form) for key, _, form in COLUMNS]))
    earlier: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in entries:
        for each in entry.get("alignment") or []:
            earlier[int(each["with_stage"])].append(each)
    alignment = [
        f"stage {s}: left {small(average(e.get('left') for e in found))}, "
        f"right {small(average(e.get('right') for e in found))}"
        for s, found in sorted(earlier.items())
    ]
    return {
        "recipe": arm.index,
        "order": order_index,
        "stage": stage,
        "title": f"{arm.label}, {view.stage_name(stage, order_index)}",
        "rows": rows,
        "alignment": "; ".join(alignment),
        "most": _most_moved(entries),
    }


def _cell(found: Sequence[Mapping[str, Any]], key: str, form: Callable[[Any], str]) -> tuple[str, str]:
    value = average(m.get(key) for m in found)
    word, other = BESIDE.get(key, ("", ""))
    more = average(m.get(other) for m in found)
    return DASH if value is None else form(value), "" if more is None else f"{word} {form(more)}"


def _unmoved(found: Sequence[Mapping[str, Any]]) -> str:
    """How many matrices are left out of the medians because nothing of them moved, over runs."""
    counts = sorted(int(m.get("unmoved") or 0) for m in found)
    if not counts or not counts[-1]:
        return ""
    some = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    return f"{some} of {max(int(m.get('matrices') or 0) for m in found)} matrices did not move"


def _most_moved(entries: Sequence[Mapping[str, Any]], count: int = 8) -> list[list[str]]:
    """The matrices that moved most: name, relative norm, its floor, spectral shift, its floor; mean over runs."""
    by_name: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in entries:
        for matrix in entry.get("matrices") or []:
            by_name[str(matrix["name"])].append(matrix)
    fields = ("relative_norm", "floor_relative_norm", "spectral_shift", "floor_spectral_shift")
    rows = [(name, [average(m.get(f) for m in found) for f in fields]) for name, found in by_name.items()]
    rows.sort(key=lambda row: -(row[1][0] or 0.0))
    return [[name, *(small(v) for v in values)] for name, values in rows[:count]]
