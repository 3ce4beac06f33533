"""What became of the items of each set: kept, lost, gained or never solved, and whether the change is shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.measure.scores import mean
from holdfast.reporting.number_format import DASH, number, p_text, percent, points
from holdfast.reporting.view import KIND_NAMES, SummaryView

HEADERS = ("Kept", "Lost", "Gained", "Never", "Before, %", "After, %", "Change, points", "95% CI", "p", "Corrected p")
"""Columns after the set. Those after "Change, points" are for a single run."""

OVER_RUNS = 7
"""Columns that a comparison shows: tests over items are about one run."""

KINDS = ("forgetting", "learning", "transfer")
"""Kinds of change, in the order of the rows."""


def span(entry: Mapping[str, Any]) -> str:
    """The two evaluations that a change is between, in words."""
    if entry["what"] == "learning":
        return "in its own stage"
    return "since learned" if entry["from_stage"] else "since the base"


def transition_tables(view: SummaryView) -> list[dict[str, Any]]:
    """One table per recipe and task order: a row per set and kind of change. Of several runs, means over runs.

    Returns:
        `recipe`, `order`, `headers`, and `rows` of (set, kind and span, cells, remark).
    """
    tables = []
    for order in range(len(view.orders)):
        for recipe in view.recipes:
            runs = [run.summary.get("score_changes") or [] for run in recipe.of_order(order)]
            rows = _rows(view, [entries for entries in runs if entries])
            if rows:
                headers = HEADERS if view.is_run else HEADERS[:OVER_RUNS]
                tables.append({"recipe": recipe, "order": order, "headers": headers, "rows": rows})
    return tables


def _rows(
    view: SummaryView, runs: Sequence[Sequence[Mapping[str, Any]]]
) -> list[tuple[str, str, tuple[str, ...], str]]:
    kinds = {each["name"]: KIND_NAMES[each["kind"]] for each in view.sets}
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for what in KINDS:
        for entry in (entry for entries in runs for entry in entries if entry["what"] == what):
            found.setdefault((entry["set"], what), []).append(entry)
    return [
        (name, f"{kinds.get(name, '')}, {span(entries[0])}", _cells(entries, view.is_run), _remark(entries))
        for (name, _), entries in found.items()
    ]


def _cells(entries: Sequence[Mapping[str, Any]], is_run: bool) -> tuple[str, ...]:
    counts = [_count(entries, field) for field in ("kept", "lost", "gained", "never")]
    scores = [mean(entry[field] for entry in entries) for field in ("before", "after", "change")]
    cells = [*counts, percent(scores[0]), percent(scores[1]), points(scores[2])]
    if is_run:
        (entry,) = entries
        ci = entry["ci95"]
        cells += [DASH if ci is None else f"{points(ci[0])} to {points(ci[1])}"]
        cells += [p_text(entry["p"]), p_text(entry["p_holm"])]
    return tuple(cells)


def _count(entries: Sequence[Mapping[str, Any]], field: str) -> str:
    """Number of items; of several runs, the mean with one decimal."""
    known = [value for entry in entries if (value := number(entry[field])) is not None]
    if not known:
        return DASH
    return f"{known[0]:.0f}" if len(entries) == 1 else f"{sum(known) / len(known):.1f}"


def _remark(entries: Sequence[Mapping[str, Any]]) -> str:
    """What is to be said of a row: that there was nothing to lose, or that a change is shown."""
    if entries[0]["what"] == "forgetting" and not any(entry["has_to_lose"] for entry in entries):
        return "nothing to lose"
    shown = [entry["outcome"] for entry in entries if entry["outcome"] in ("fell", "rose")]
    if len(entries) == 1:
        return shown[0] if shown else entries[0]["outcome"]
    counts = [f"{outcome} in {shown.count(outcome)}" for outcome in ("fell", "rose") if outcome in shown]
    return f"{', '.join(counts)} of {len(entries)} runs" if counts else f"not shown in any of {len(entries)} runs"
