"""pass@k and avg@k by set and stage, from several sampled answers to each item."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from holdfast.reporting.number_format import DASH, percent
from holdfast.reporting.view import KIND_NAMES, RecipeView, SummaryView


def pass_at_k_tables(view: SummaryView) -> list[dict[str, Any]]:
    """One table per task order and recipe, with a row per set and stage. Empty if nothing was sampled."""
    tables = []
    for order_index in range(len(view.orders)):
        for recipe in view.recipes:
            rows = []
            for _, sets in view.sets_in_order(order_index):
                for each in sets:
                    for stage in view.stages(order_index):
                        blocks = _blocks(recipe, order_index, stage, each["name"])
                        if blocks:
                            place = view.stage_name(stage, order_index)
                            rows.append((each["name"], KIND_NAMES[each["kind"]], place, _row(blocks)))
            if rows:
                block = _any_block(recipe, order_index)
                headers = [f"avg@{block['num_samples']}", *(f"pass@{each['k']}" for each in block["pass_at_k"])]
                title = f"{block['num_samples']} samples at temperature {block['temperature']:g}"
                tables.append(
                    {"order": order_index, "recipe": recipe, "headers": headers, "rows": rows, "title": title}
                )
    return tables


def _blocks(recipe: RecipeView, order_index: int, stage: int, name: str) -> list[Mapping[str, Any]]:
    scores = (run.score(stage, name) for run in recipe.of_order(order_index))
    return [score["sampled"] for score in scores if score is not None and score.get("sampled")]


def _any_block(recipe: RecipeView, order_index: int) -> Mapping[str, Any]:
    return next(
        score["sampled"]
        for run in recipe.of_order(order_index)
        for evaluation in run.evaluations
        for score in evaluation["scores"].values()
        if score.get("sampled")
    )


def _row(blocks: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(mean over runs, 95% CI over items of a single run) for avg@k and each pass@k."""
    cells = [_cell([(b["avg_at_k"], b["avg_at_k_ci95"]) for b in blocks])]
    for place in range(len(blocks[0]["pass_at_k"])):
        own = [b["pass_at_k"][place] for b in blocks if place < len(b["pass_at_k"])]
        cells.append(_cell([(each["mean"], each["ci95"]) for each in own]))
    return cells


def _cell(values: Sequence[tuple[float, Sequence[float]]]) -> tuple[str, str]:
    if not values:
        return DASH, ""
    (low, high) = values[0][1]
    interval = f"[{percent(low)}, {percent(high)}]" if len(values) == 1 else ""
    return percent(fmean(mean for mean, _ in values)), interval
