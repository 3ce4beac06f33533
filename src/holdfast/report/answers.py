"""How far the answers moved: KL in both directions by set, what else changed, and the samples that moved most."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.measure.statistics import mean_interval
from holdfast.report.numbers import DASH, average, nats, number, percent, small
from holdfast.report.plot import Figure, Spec, color, layout, plot_text, symbol
from holdfast.report.samples import Word
from holdfast.report.view import ArmView, View

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


def answer_blocks(view: View) -> dict[str, Any]:
    """Per order and stage a figure of KL by set; per recipe too a table, and the samples that moved most."""
    figures: list[Figure] = []
    tables: list[dict[str, Any]] = []
    moved: list[dict[str, Any]] = []
    headers = HEADERS if _has_similarity(view) else HEADERS[:-1]
    for order_index in range(len(view.orders)):
        for stage in view.stages(order_index):
            by_arm = {arm.index: _entries(arm, order_index, stage) for arm in view.arms}
            figure = _kl(view, order_index, stage, by_arm)
            figures += [figure] if figure else []
            for arm in view.arms:
                found = by_arm[arm.index]
                if not found:
                    continue
                where = {"recipe": arm.index, "order": order_index, "stage": stage}
                title = f"{arm.label}, {view.stage_name(stage, order_index)}"
                rows = [
                    (name, entries[0].get("kind") or "", _row(entries)[: len(headers)])
                    for name, entries in found.items()
                ]
                tables.append(where | {"title": title, "rows": rows})
                items = [
                    _moved(name, each) for name, entries in found.items() for each in entries[0].get("moved") or []
                ]
                if items:
                    items.sort(key=lambda item: -item["distance"])
                    moved.append(where | {"title": title, "samples": items[:MOST_MOVED]})
    stages = sorted({table["stage"] for table in tables})
    return {
        "figures": figures,
        "headers": headers,
        "tables": tables,
        "moved": moved,
        "recipes": [(arm.index, arm.label) for arm in view.arms if any(t["recipe"] == arm.index for t in tables)],
        "stages": [(s, f"after stage {s}") for s in stages],
        "last": stages[-1] if stages else 0,
    }


def _has_similarity(view: View) -> bool:
    """Whether an embedding model was named: without one the column would say nothing."""
    entries = (each for run in view.runs for each in run.summary.get("responses") or [])
    return any(number(each.get("embedding_similarity")) is not None for each in entries)


def _entries(arm: ArmView, order_index: int, stage: int) -> dict[str, list[Mapping[str, Any]]]:
    """By set what each run of the arm has measured after a stage."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for run in arm.of_order(order_index):
        for entry in run.summary.get("responses") or []:
            if entry.get("stage") == stage:
                found.setdefault(str(entry["set"]), []).append(entry)
    return found


def _interval(entries: Sequence[Mapping[str, Any]], key: str) -> tuple[float | None, float | None]:
    """Mean over runs and half of its 95 % interval; of one run, from its standard error over prompts."""
    values = [number(e.get(key)) for e in entries]
    if len(entries) == 1:
        error = number(entries[0].get(f"{key}_se"))
        return values[0], None if error is None else 1.96 * error
    found = mean_interval(values)
    return found.mean, None if found.ci95 is None or found.mean is None else found.ci95[1] - found.mean


def _row(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(value, what stands small beside it) per column."""

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
    cells.append((small(of("embedding_similarity"), 2), "" if unlike is None else f"unlike {small(unlike, 2)}"))
    return cells


def _from(base: float | None, form: Any) -> str:
    return "" if base is None else f"from {form(base)}"


def _kl(
    view: View, order_index: int, stage: int, by_arm: Mapping[int, Mapping[str, Sequence[Mapping[str, Any]]]]
) -> Figure | None:
    """KL(base‖model) by set, a row per set and a mark per recipe, with intervals."""
    names = [s["name"] for _, members in view.sets_in_order(order_index) for s in members]
    names = [name for name in names if any(name in found for found in by_arm.values())]
    if not names:
        return None
    count = max(1, sum(bool(found) for found in by_arm.values()))
    traces: list[Spec] = []
    rows: dict[str, list[str]] = {name: [] for name in names}
    shown = [arm for arm in view.arms if by_arm[arm.index]]
    for k, arm in enumerate(shown):
        values = {name: _interval(by_arm[arm.index].get(name, []), "kl_base_to_model") for name in names
                  if by_arm[arm.index].get(name)}  # fmt: skip
        known = {name: (v, half or 0.0) for name, (v, half) in values.items() if v is not None}
        offset = (k - (count - 1) / 2) * min(0.2, 0.7 / count)
        for name in names:
            value, half = values.get(name, (None, None))
            rows[name].append(DASH if value is None else nats(value) + (f" ± {nats(half)}" if half is not None else ""))
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": plot_text(arm.label),
                "x": [v for v, _ in known.values()],
                "y": [names.index(name) + offset for name in known],
                "customdata": [plot_text(name) for name in known],
                "error_x": {
                    "type": "data",
                    "array": [half for _, half in known.values()],
                    "color": f"@{color(arm)}/0.7",
                    "thickness": 1.5,
                    "width": 3,
                },
                "marker": {"color": f"@{color(arm)}", "symbol": symbol(arm), "size": 9},
                "hovertemplate": "%{customdata}: %{x:.3f} nats per token<extra>%{fullData.name}</extra>",
                "meta": {"arm": arm.index},
            }
        )
    if not any(trace["x"] for trace in traces):
        return None  # KL was not measured
    reach = max((x + up for t in traces for x, up in zip(t["x"], t["error_x"]["array"])), default=0.0)
    several = any(len(entries) > 1 for found in by_arm.values() for entries in found.values())
    over = "over runs (Student's t)" if several else "over prompts (1.96 standard errors)"
    told = "; ".join(f"{name}: {', '.join(values)}" for name, values in rows.items())
    return Figure(
        id=f"fig-kl-sets-{order_index}-{stage}",
        title=f"KL to base by set, {view.stage_name(stage, order_index)}",
        note="KL(base‖model) in nats per token on the base's own samples, exact over the vocabulary at each token. "
        f"Whiskers are 95 % intervals {over}.",
        alt=f"Dot plot of KL to base by set. {told}.",
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
        headers=("Set", *(arm.label for arm in shown)),
        rows=tuple((name, *values) for name, values in rows.items()),
        filters={"order": order_index, "stage": stage},
    )  # fmt: skip


def _moved(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    base, model = difference(str(item.get("base") or ""), str(item.get("model") or ""))
    return {
        "set": name,
        "id": item.get("id") or "",
        "prompt": item.get("prompt") or "",
        "distance": number(item.get("edit_distance")) or 0.0,
        "edit_distance": small(item.get("edit_distance"), 2),
        "answers": [
            ("base", base, _reward(item.get("reward_base"))),
            ("model", model, _reward(item.get("reward"))),
        ],
    }


def _reward(value: Any) -> tuple[str, str]:
    """A reward in words, and the class that colors it."""
    reward = number(value)
    if reward is None:
        return "not judged", "none"
    return f"reward {reward:.2f}".removesuffix("0").removesuffix(".0"), "good" if reward >= 0.5 else "bad"


def difference(before: str, after: str) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
    """Two texts in pieces; marked are the words that only one of them has, at their place."""
    a, b = (re.findall(r"\S+|\s+", text) for text in (before, after))
    if len(a) * len(b) > 4_000_000:  # the comparison is quadratic
        return (Word(before, False),), (Word(after, False),)
    left: list[Word] = []
    right: list[Word] = []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        new = tag != "equal"
        left += [Word("".join(a[i:j]), new)] if j > i else []
        right += [Word("".join(b[k:m]), new)] if m > k else []
    return tuple(left), tuple(right)
