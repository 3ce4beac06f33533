"""Weight drift: how far the weights moved from the base model's, along the stream, by module type, and by matrix."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from holdfast.reporting.figure import Figure, Spec, band, color, dash, layout, line, plot_text, symbol
from holdfast.reporting.layer_heatmap import MEASURES, ColorScale, layer_heatmap, type_order
from holdfast.reporting.number_format import DASH, average, percent, small
from holdfast.reporting.view import CurvePoints, RecipeView, RunView, SummaryView, over_runs

MEANINGS = {
    "relative_norm": "‖ΔW‖ / ‖W₀‖ in the Frobenius norm, over all weights.",
    "spectral_shift": "‖σ(W) − σ(W₀)‖ / ‖σ(W₀)‖ of the singular values σ. Median over the matrices that moved.",
}

COLUMNS = [
    ("relative_norm", "Relative norm", small),
    ("unchanged", "Unchanged, %", percent),
    ("spectral_shift", "Spectral shift", small),
    ("left_angle", "Left angle, °", small),
    ("right_angle", "Right angle, °", small),
    ("stable_rank", "Stable rank", small),
    ("principal_overlap", "Principal mask kept, %", percent),
    ("principal_changed", "Principal mask changed, %", percent),
    ("changes_in_principal", "Changes in principal mask, %", percent),
    ("changes_in_low", "Changes in low magnitudes, %", percent),
]
"""Columns of the table by module type: key in the summary, title, format."""

SMALL_TEXT = {
    "spectral_shift": ("mean", "spectral_shift_mean"),
    "left_angle": ("largest", "left_angle_largest"),
    "right_angle": ("largest", "right_angle_largest"),
}
"""What a cell shows in small text below its median, because papers report it: the mean spectral shift (NSS), and the
largest angle."""


def weight_drift(view: SummaryView) -> dict[str, Any]:
    """The figures along the stream, a table per recipe and stage, and the heat maps by layer."""
    panels, maps = [], []
    along = [f for i in range(len(view.orders)) for key in MEASURES if (f := _along_figure(view, i, key)) is not None]
    scales = {key: ColorScale.over(view, key) for key in MEASURES}
    for recipe in view.recipes:
        for order_index in range(len(view.orders)):
            stages = {s: e for s in view.stages(order_index) if (e := _entries(recipe, order_index, s))}
            for stage, entries in stages.items():
                panels.append(_table(view, recipe, order_index, stage, entries))
            for place, (key, scale) in enumerate(scales.items()):
                figure = layer_heatmap(view, recipe, order_index, key, place, stages, scale) if scale else None
                if figure:
                    maps.append(figure)
    used = sorted({panel["stage"] for panel in panels})
    with_panels = {panel["recipe"] for panel in panels}
    return {
        "along": along,
        "panels": panels,
        "maps": maps,
        "stages": [(s, f"after stage {s}") for s in used],
        "last": used[-1] if used else 0,
        "measures": list(enumerate(MEASURES.values())),
        "columns": [title for _, title, _ in COLUMNS],
        "recipes": [(recipe.index, recipe.label) for recipe in view.recipes if recipe.index in with_panels],
    }


def _entries(recipe: RecipeView, order_index: int, stage: int) -> list[Mapping[str, Any]]:
    """What each run of the recipe measured against the base model after a stage."""
    return [
        entry
        for run in recipe.of_order(order_index)
        for entry in run.summary.get("drift") or []
        if entry.get("stage") == stage and entry.get("against", "base") == "base"
    ]


def _along_figure(view: SummaryView, order_index: int, key: str) -> Figure | None:
    """One measure over all weights by stage: a line per recipe, and the no-op floor."""

    def of(run: RunView, block: str) -> Iterator[tuple[float, Any]]:
        for entry in run.summary.get("drift") or []:
            if entry.get("against", "base") == "base":
                yield float(entry["stage"]), (entry.get(block) or {}).get(key)

    series = {r.index: over_runs(r.of_order(order_index), lambda run: of(run, "overall")) for r in view.recipes}
    shown = [recipe for recipe in view.recipes if series[recipe.index]]
    if not shown:
        return None
    floors = [x for r in view.recipes for x in over_runs(r.of_order(order_index), lambda run: of(run, "floor"))]
    floor = max((high for *_, high in floors), default=None)
    columns = {recipe.label: {x: y for x, y, *_ in series[recipe.index]} for recipe in shown}
    stages = sorted({x for column in columns.values() for x in column})
    traces = [trace for recipe in shown for trace in _lines(recipe, series[recipe.index])]
    if floor:
        flat = line([0, stages[-1]], [floor, floor], "muted", dash="dot", width=1.5)
        traces.append(flat | {"name": "no-op floor", "showlegend": False, "hoverinfo": "skip"})
    largest = max(high for recipe in shown for *_, high in series[recipe.index])
    top = 1.06 * max(largest, floor or 0.0) or 1.0
    right = 16
    if len(view.recipes) > 1:
        traces += _labels(stages[-1], [(recipe, series[recipe.index][-1][1]) for recipe in shown], top)
        right += 8 * max(len(recipe.label) for recipe in view.recipes)
    note = {"x": 0, "xanchor": "left", "y": floor, "yanchor": "bottom", "text": "no-op floor", "showarrow": False}
    alt_text = "; ".join(
        f"{recipe.label}: {small(series[recipe.index][-1][1])} after stage {series[recipe.index][-1][0]:g}"
        for recipe in shown
    )
    return Figure(
        id=f"fig-drift-{key.replace('_', '-')}-{order_index}",
        title=MEASURES[key],
        note=f"{MEANINGS[key]} {_floor_text(floor)}",
        alt=f"{MEASURES[key]} by stage. {alt_text}. {_floor_text(floor)}",
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
        headers=("After stage", *columns, "No-op floor"),
        rows=tuple(
            (f"{s:g}", *(small(column.get(s)) for column in columns.values()), small(floor)) for s in stages
        ),
        filters={"order": order_index},
    )  # fmt: skip


def _lines(recipe: RecipeView, series: CurvePoints) -> list[Spec]:
    """A recipe's line over the stages, and its band if its runs differ."""
    main = line([x for x, *_ in series], [y for _, y, *_ in series], color(recipe), dash=dash(recipe)) | {
        "mode": "lines+markers",
        "marker": {"color": f"@{color(recipe)}", "symbol": symbol(recipe), "size": 8},
        "cliponaxis": False,
        "name": plot_text(recipe.label),
        "showlegend": False,
        "hovertemplate": "%{y:.3g} after stage %{x}<extra>%{fullData.name}</extra>",
        "meta": {"recipe": recipe.index},
    }
    return [*([band(series, recipe)] if any(high > low for _, _, low, high in series) else []), main]


def _labels(x: float, finals: Sequence[tuple[RecipeView, float]], top: float) -> list[Spec]:
    """Each recipe's name at the end of its line, moved up where it would cover the name below it."""
    apart, below = 0.065 * top, -top
    traces: list[Spec] = []
    for recipe, y in sorted(finals, key=lambda item: item[1]):
        below = max(y, below + apart)
        traces.append(
            {
                "type": "scatter",
                "mode": "text",
                "x": [x],
                "y": [below],
                "text": [f"  <b>{plot_text(recipe.label)}</b>"],
                "textposition": "middle right",
                "textfont": {"color": f"@{color(recipe)}"},
                "cliponaxis": False,
                "hoverinfo": "skip",
                "showlegend": False,
                "meta": {"recipe": recipe.index},
            }
        )
    return traces


def _floor_text(floor: float | None) -> str:
    if floor is None:
        return "The no-op floor was not measured."
    if floor == 0:
        return "The no-op floor is exactly 0: converting the base model to the model's dtype and back changes nothing."
    return f"The no-op floor, from converting the base model to the model's dtype and back, is {small(floor)}."


def _table(
    view: SummaryView, recipe: RecipeView, order_index: int, stage: int, entries: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Every measure by module type, mean over runs. The first row is all weights, the last the no-op floor.

    A row is its name, a remark, and per column the value and the small text below it.
    """
    types = sorted({name for e in entries for name in e.get("by_type") or {}}, key=type_order)
    named = [("All weights", [e.get("overall") or {} for e in entries])]
    named += [(t, [(e.get("by_type") or {}).get(t) or {} for e in entries]) for t in types]
    named += [("No-op floor", [e.get("floor") or {} for e in entries])]
    rows = []
    for name, blocks in named:
        rows.append((name, _unmoved(blocks), [_cell(blocks, key, form) for key, _, form in COLUMNS]))
    earlier: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in entries:
        for each in entry.get("alignment") or []:
            earlier[int(each["with_stage"])].append(each)
    alignment = [
        f"stage {s}: left {small(average(each.get('left') for each in sides))}, "
        f"right {small(average(each.get('right') for each in sides))}"
        for s, sides in sorted(earlier.items())
    ]
    return {
        "recipe": recipe.index,
        "order": order_index,
        "stage": stage,
        "title": f"{recipe.label}, {view.stage_name(stage, order_index)}",
        "rows": rows,
        "alignment": "; ".join(alignment),
        "conflict": {
            key: value
            for key in ("pairwise", "state", "gap")
            if (value := average((e.get("conflict") or {}).get(key) for e in entries)) is not None
        },
        "most": _most_moved(entries),
    }


def _cell(blocks: Sequence[Mapping[str, Any]], key: str, form: Callable[[Any], str]) -> tuple[str, str]:
    value = average(block.get(key) for block in blocks)
    word, other = SMALL_TEXT.get(key, ("", ""))
    more = average(block.get(other) for block in blocks)
    return DASH if value is None else form(value), "" if more is None else f"{word} {form(more)}"


def _unmoved(blocks: Sequence[Mapping[str, Any]]) -> str:
    """How many matrices did not move at all; the medians leave them out."""
    counts = sorted(int(block.get("unmoved") or 0) for block in blocks)
    if not counts or not counts[-1]:
        return ""
    some = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    return f"{some} of {max(int(block.get('matrices') or 0) for block in blocks)} matrices did not move"


def _most_moved(entries: Sequence[Mapping[str, Any]], count: int = 8) -> list[list[str]]:
    """The matrices that moved most: name, relative norm, its floor, spectral shift, its floor; means over runs."""
    by_name: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in entries:
        for matrix in entry.get("matrices") or []:
            by_name[str(matrix["name"])].append(matrix)
    fields = ("relative_norm", "floor_relative_norm", "spectral_shift", "floor_spectral_shift")
    rows = [(name, [average(m.get(f) for m in matrices) for f in fields]) for name, matrices in by_name.items()]
    rows.sort(key=lambda row: -(row[1][0] or 0.0))
    return [[name, *(small(v) for v in values)] for name, values in rows[:count]]
