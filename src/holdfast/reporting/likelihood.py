"""What needs no sampling, by set and stage: the NLL of demonstrations, the probability of right answers whose beginning
is forced, KL to the base on demonstrations; and the calibration of answers.

The NLL is the only number of sets that nothing judges.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from holdfast.measure.statistics import mean_interval
from holdfast.reporting.number_format import DASH, nats, number, percent, points
from holdfast.reporting.view import KIND_NAMES, RecipeView, SummaryView

OUTCOMES = {
    ("learning", "fell"): "learned",
    ("learning", "rose"): "rose",
    ("forgetting", "fell"): "improved",
    ("forgetting", "rose"): "forgotten",
    ("transfer", "fell"): "improved",
    ("transfer", "rose"): "rose",
}
"""What a change that is shown is called in a set that nothing judges."""


def likelihood_tables(view: SummaryView) -> list[dict[str, Any]]:
    """One table per task order and recipe: NLL before and after each stage, and the changes in words. May be empty."""
    tables = []
    for order_index in range(len(view.orders)):
        stages = view.stages(order_index)
        for recipe in view.recipes:
            rows = [
                (
                    each["name"],
                    _kind(view, recipe, order_index, each),
                    [_cell(recipe, order_index, stage, each["name"]) for stage in stages],
                    _changes(recipe, order_index, each["name"]),
                )
                for _, sets in view.sets_in_order(order_index)
                for each in sets
            ]
            rows = [row for row in rows if any(value != DASH for value, _ in row[2])]
            if rows:
                headers = [view.stage_name(stage, order_index) for stage in stages]
                tables.append({"order": order_index, "recipe": recipe, "headers": headers, "rows": rows})
    return tables


def right_answer_tables(view: SummaryView) -> list[dict[str, Any]]:
    """One table per task order and recipe, a row per set and stage: score, probability of the right answer, KL on
    demonstrations, calibration. Sets that have none of the last three are left out. May be empty."""
    tables = []
    for order_index in range(len(view.orders)):
        for recipe in view.recipes:
            rows = [
                (each["name"], _kind(view, recipe, order_index, each), view.stage_name(stage, order_index), cells)
                for _, sets in view.sets_in_order(order_index)
                for each in sets
                for stage in view.stages(order_index)
                for cells in (_measured(recipe, order_index, stage, each["name"]),)
                if any(value != DASH for value, _ in cells[1:])
            ]
            if rows:
                tables.append({"order": order_index, "recipe": recipe, "rows": rows})
    return tables


def _measured(recipe: RecipeView, order_index: int, stage: int, name: str) -> list[tuple[str, str]]:
    """(mean over runs, what it may be off by in a single run) of each column."""
    scores = _scores(recipe, order_index, stage, name)
    forced = [block for s in scores if (block := s.get("forced"))]
    calibrated = [block for s in scores if (block := s.get("calibration"))]
    chance = [block["ece_if_calibrated"] for block in calibrated]
    change = _probability_change(recipe, order_index, stage, name)
    return [
        _mean([s.get("mean") for s in scores], percent),
        _mean([b["probability"] for b in forced], percent, change),
        _mean([s.get("kl_on_demonstrations") for s in scores], nats, _error(scores, "kl_on_demonstrations_se", nats)),
        _mean([b["confidence"] for b in calibrated], percent),
        _mean([b["ece"] for b in calibrated], percent, f"{percent(fmean(chance))} by chance" if chance else ""),
    ]


def _mean(values: Sequence[Any], write: Callable[[float], str], more: str = "") -> tuple[str, str]:
    known = [value for value in map(number, values) if value is not None]
    return (write(fmean(known)), more) if known else (DASH, "")


def _error(scores: Sequence[Mapping[str, Any]], field: str, write: Callable[[float], str]) -> str:
    error = number(scores[0].get(field)) if len(scores) == 1 else None
    return "" if error is None else f"± {write(error)}"


def _probability_change(recipe: RecipeView, order_index: int, stage: int, name: str) -> str:
    """The change of a set's probability that ends at a stage, in points: with its 95% CI over items for one run, else
    the mean over runs."""
    changes = [
        entry
        for run in recipe.of_order(order_index)
        for entry in run.summary.get("probability_changes") or []
        if entry["set"] == name and entry["to_stage"] == stage
    ]
    if not changes:
        return ""
    text = f"{changes[0]['what']} {points(fmean(entry['change'] for entry in changes))}"
    if len(changes) > 1 or changes[0]["ci95"] is None:
        return text
    low, high = changes[0]["ci95"]
    return f"{text} [{points(low)}, {points(high)}]"


def _kind(view: SummaryView, recipe: RecipeView, order_index: int, each: Mapping[str, Any]) -> str:
    unjudged = view.is_unjudged(recipe, order_index, 0, each["name"])
    return KIND_NAMES[each["kind"]] + (", not judged" if unjudged else "")


def _scores(recipe: RecipeView, order_index: int, stage: int, name: str) -> list[Mapping[str, Any]]:
    return [s for run in recipe.of_order(order_index) if (s := run.score(stage, name)) is not None]


def _cell(recipe: RecipeView, order_index: int, stage: int, name: str) -> tuple[str, str]:
    """The NLL, and what it may be off by: of one run its standard error over items, else the range over runs."""
    scores = [s for s in _scores(recipe, order_index, stage, name) if number(s.get("nll")) is not None]
    if not scores:
        return DASH, ""
    values = [s["nll"] for s in scores]
    if len(values) > 1:
        return nats(fmean(values)), f"{nats(min(values))} to {nats(max(values))}"
    error = number(scores[0].get("nll_se"))
    return nats(values[0]), "" if error is None else f"± {nats(error)}"


def _changes(recipe: RecipeView, order_index: int, name: str) -> list[str]:
    """Each change of a set's NLL, its 95% CI, and what it shows: over items for one run, over runs for several."""
    by_span: dict[tuple[str, int, int], list[Mapping[str, Any]]] = {}
    for run in recipe.of_order(order_index):
        for entry in run.summary.get("nll_changes") or []:
            if entry["set"] == name:
                by_span.setdefault((entry["what"], entry["from_stage"], entry["to_stage"]), []).append(entry)
    return [_change(what, entries) for (what, _, _), entries in by_span.items()]


def _change(what: str, entries: Sequence[Mapping[str, Any]]) -> str:
    if len(entries) > 1:
        known = mean_interval([e["change"] for e in entries])
        low, high = known.ci95 or (None, None)
        return f"{what} {_signed(known.mean)} (95% CI over runs {_signed(low)} to {_signed(high)})"
    (entry,) = entries
    interval = ""
    if entry["ci95"] is not None:
        interval = f" (95% CI {_signed(entry['ci95'][0])} to {_signed(entry['ci95'][1])})"
    # A judged set is learned or forgotten by its score.
    names = {} if entry["judged"] else OUTCOMES
    shown = names.get((what, entry["outcome"]), entry["outcome"])
    shown = "no change is shown" if shown == "not shown" else shown
    return f"{what} {_signed(entry['change'])}{interval}: {shown}"


def _signed(value: float | None) -> str:
    text = nats(value)
    return text if text.startswith("−") or not value or value <= 0 else f"+{text}"
