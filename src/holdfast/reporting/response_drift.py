"""Response drift: how far the answers moved from the base model's, by set, and the answers that moved most."""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.measure.statistics import mean_interval
from holdfast.reporting.figure import Figure, Spec, color, layout, plot_text, symbol
from holdfast.reporting.number_format import DASH, average, nats, number, percent, small
from holdfast.reporting.samples import grade, reward_text
from holdfast.reporting.view import KIND_NAMES, RecipeView, SummaryView
from holdfast.reporting.word_changes import differing_words

HEADERS = (
    "KL(base‖model)",
    "KL(model‖base)",
    "Entropy",
    "Equal answers, %",
    "Edit distance",
    "Length",
    "Distinct-2",
    "Similarity",
)

MOST_MOVED = 5
"""Answers shown per recipe and stage."""


def response_drift(view: SummaryView) -> dict[str, Any]:
    """Per task order and stage: a figure of KL by set, and per recipe a table and the answers that moved most."""
    figures: list[Figure] = []
    tables: list[dict[str, Any]] = []
    most_moved: list[dict[str, Any]] = []
    headers = HEADERS if _has_similarity(view) else HEADERS[:-1]
    for order_index in range(len(view.orders)):
        for stage in view.stages(order_index):
            by_recipe = {recipe.index: _entries(recipe, order_index, stage) for recipe in view.recipes}
            figure = _kl_figure(view, order_index, stage, by_recipe)
            figures += [figure] if figure else []
            for recipe in view.recipes:
                by_set = by_recipe[recipe.index]
                if not by_set:
                    continue
                where = {"recipe": recipe.index, "order": order_index, "stage": stage}
                title = f"{recipe.label}, {view.stage_name(stage, order_index)}"
                rows = [
                    (name, KIND_NAMES.get(entries[0].get("kind") or "", ""), _row(entries)[: len(headers)])
                    for name, entries in by_set.items()
                ]
                tables.append(where | {"title": title, "rows": rows})
                items = [
                    _moved(name, each) for name, entries in by_set.items() for each in entries[0].get("moved") or []
                ]
                if items:
                    items.sort(key=lambda item: -item["distance"])
                    most_moved.append(where | {"title": title, "samples": items[:MOST_MOVED]})
    stages = sorted({table["stage"] for table in tables})
    with_tables = {table["recipe"] for table in tables}
    return {
        "figures": figures,
        "headers": headers,
        "tables": tables,
        "most_moved": most_moved,
        "recipes": [(recipe.index, recipe.label) for recipe in view.recipes if recipe.index in with_tables],
        "stages": [(s, f"after stage {s}") for s in stages],
        "last": stages[-1] if stages else 0,
    }


def _has_similarity(view: SummaryView) -> bool:
    """Whether embedding similarity was measured. Without an embedding model its column would be empty."""
    entries = (each for run in view.runs for each in run.summary.get("responses") or [])
    return any(number(each.get("embedding_similarity")) is not None for each in entries)


def _entries(recipe: RecipeView, order_index: int, stage: int) -> dict[str, list[Mapping[str, Any]]]:
    """By set, what each run of the recipe measured after a stage."""
    by_set: dict[str, list[Mapping[str, Any]]] = {}
    for run in recipe.of_order(order_index):
        for entry in run.summary.get("responses") or []:
            if entry.get("stage") == stage:
                by_set.setdefault(str(entry["set"]), []).append(entry)
    return by_set


def _interval(entries: Sequence[Mapping[str, Any]], key: str) -> tuple[float | None, float | None]:
    """The mean over runs and half the width of its 95% CI; for one run, 1.96 standard errors over prompts."""
    values = [number(e.get(key)) for e in entries]
    if len(entries) == 1:
        error = number(entries[0].get(f"{key}_se"))
        return values[0], None if error is None else 1.96 * error
    mean = mean_interval(values)
    return mean.mean, None if mean.ci95 is None or mean.mean is None else mean.ci95[1] - mean.mean


def _row(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(value, small text below it) per column."""

    def of(key: str) -> float | None:
        return average(e.get(key) for e in entries)

    cells = []
    for key in ("kl_base_to_model", "kl_model_to_base"):
        value, half = _interval(entries, key)
        cells.append((nats(value), f"± {nats(half)}" if half is not None else ""))
    cells.append((small(of("entropy")), _from(of("entropy_base"), small)))
    cells.append((percent(of("equal_answers"), 0), ""))
    cells.append((small(of("edit_distance"), 2), ""))
    cells.append((small(of("length")), _from(of("length_base"), small)))
    cells.append((small(of("distinct_2"), 2), _from(of("distinct_2_base"), lambda x: small(x, 2))))
    unlike = of("embedding_similarity_unlike")
    cells.append((small(of("embedding_similarity"), 2), "" if unlike is None else f"unrelated {small(unlike, 2)}"))
    return cells


def _from(base: float | None, form: Any) -> str:
    return "" if base is None else f"from {form(base)}"


def _kl_figure(
    view: SummaryView, order_index: int, stage: int, by_recipe: Mapping[int, Mapping[str, Sequence[Mapping[str, Any]]]]
) -> Figure | None:
    """KL(base‖model) with 95% CIs: a row per set, a mark per recipe; None if KL was not measured."""
    names = [s["name"] for _, members in view.sets_in_order(order_index) for s in members]
    names = [name for name in names if any(name in by_set for by_set in by_recipe.values())]
    if not names:
        return None
    count = max(1, sum(bool(by_set) for by_set in by_recipe.values()))
    traces: list[Spec] = []
    rows: dict[str, list[str]] = {name: [] for name in names}
    shown = [recipe for recipe in view.recipes if by_recipe[recipe.index]]
    for k, recipe in enumerate(shown):
        by_set = by_recipe[recipe.index]
        values = {name: _interval(by_set[name], "kl_base_to_model") for name in names if by_set.get(name)}
        known = {name: (v, half or 0.0) for name, (v, half) in values.items() if v is not None}
        offset = (k - (count - 1) / 2) * min(0.2, 0.7 / count)
        for name in names:
            value, half = values.get(name, (None, None))
            rows[name].append(DASH if value is None else nats(value) + (f" ± {nats(half)}" if half is not None else ""))
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": plot_text(recipe.label),
                "x": [v for v, _ in known.values()],
                "y": [names.index(name) + offset for name in known],
                "customdata": [plot_text(name) for name in known],
                "error_x": {
                    "type": "data",
                    "array": [half for _, half in known.values()],
                    "color": f"@{color(recipe)}/0.7",
                    "thickness": 1.5,
                    "width": 3,
                },
                "marker": {"color": f"@{color(recipe)}", "symbol": symbol(recipe), "size": 9},
                "hovertemplate": "%{customdata}: %{x:.3f} nats per token<extra>%{fullData.name}</extra>",
                "meta": {"recipe": recipe.index},
            }
        )
    if not any(trace["x"] for trace in traces):
        return None
    reach = max((x + up for t in traces for x, up in zip(t["x"], t["error_x"]["array"])), default=0.0)
    several = any(len(entries) > 1 for by_set in by_recipe.values() for entries in by_set.values())
    over = "over runs (Student's t)" if several else "over prompts (1.96 standard errors)"
    alt_text = "; ".join(f"{name}: {', '.join(values)}" for name, values in rows.items())
    return Figure(
        id=f"fig-kl-sets-{order_index}-{stage}",
        title=f"KL to base by set, {view.stage_name(stage, order_index)}",
        note="KL(base‖model) in nats per token on samples of the base model, exact over the vocabulary at each token. "
        f"Whiskers are 95% CIs {over}.",
        alt=f"Dot plot of KL to base by set. {alt_text}.",
        spec={
            "data": traces,
            "layout": layout(
                height=90 + len(names) * max(26, 8 + 9 * count),
                xaxis={"title": {"text": "KL(base‖model), nats per token"}, "range": [0, 1.05 * reach or 1.0]},
                yaxis={
                    "tickvals": list(range(len(names))),
                    "ticktext": [plot_text(name) for name in names],
                    "range": [len(names) - 0.5, -0.5],
                    "automargin": True,
                    "showgrid": False,
                    "ticksuffix": "  ",
                },
                shapes=[
                    {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": i + 0.5, "y1": i + 0.5,
                     "line": {"color": "@grid", "width": 1}, "layer": "below"}
                    for i in range(len(names) - 1)
                ],
            ),
        },
        headers=("Set", *(recipe.label for recipe in shown)),
        rows=tuple((name, *values) for name, values in rows.items()),
        filters={"order": order_index, "stage": stage},
    )  # fmt: skip


def _moved(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    base, model = differing_words(str(item.get("base") or ""), str(item.get("model") or ""))
    rewards = number(item.get("reward_base")), number(item.get("reward"))
    return {
        "set": name,
        "id": item.get("id") or "",
        "prompt": item.get("prompt") or "",
        "distance": number(item.get("edit_distance")) or 0.0,
        "edit_distance": small(item.get("edit_distance"), 2),
        "answers": [
            (source, words, reward_text(reward), grade(reward))
            for source, words, reward in zip(("base", "model"), (base, model), rewards)
        ],
    }
