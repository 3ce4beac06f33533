"""The summary of a run or a comparison for the terminal: the key numbers as a table, and the verdict."""

import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

from holdfast.cli.tables import WIDEST, table
from holdfast.measure.metrics import METRICS
from holdfast.report.number_format import ShownEstimate, interval_text, seconds, value_text
from holdfast.report.view import RecipeView, SummaryView

SHOWN = [metric for metric in METRICS.values() if metric.headline]
"""Metrics that the terminal's table of a comparison has room for. The report has all."""


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print a run's or a comparison's summary to standard output."""
    print(summary_as_text(summary))


def summary_as_text(summary: Mapping[str, Any]) -> str:
    """A table and the verdict. A run's table has scores by set and stage, a comparison's has metrics by recipe."""
    view = SummaryView(summary)
    width = min(WIDEST, shutil.get_terminal_size().columns)
    title = view.name if view.status == "complete" else f"{view.name} ({view.status})"
    sentences = [textwrap.fill(s, width, initial_indent="- ", subsequent_indent="  ") for s in view.verdict]
    return "\n".join([title, "", _matrix(view) if view.is_run else _metrics(view), "", *sentences])


def _matrix(view: SummaryView) -> str:
    """Scores in percent on every set, before the first stage and after each stage; a task's own stage is marked."""
    stages = view.stages(0)
    header = ["score, %", "kind", *(view.stage_name(stage, 0) for stage in stages)]
    rows = []
    for _, sets in view.sets_in_order(0):
        for each in sets:
            cells = [view.cell(view.recipes[0], 0, stage, each["name"]) for stage in stages]
            marked = [f"{value_text(c.mean, 'score')}{'*' if c.own else ' '}" if c else "–" for c in cells]
            rows.append([each["name"], each["kind"], *marked])
    return table(header, rows) + "\n* right after the task's own stage"


def _metrics(view: SummaryView) -> str:
    header = ["recipe", *(f"{metric.label.lower()}, {metric.unit}" for metric in SHOWN), "training"]
    return table(header, [_row(recipe) for recipe in view.recipes])


def _row(recipe: RecipeView) -> list[str]:
    values = []
    for metric in SHOWN:
        value = recipe.metrics.get(metric.name, ShownEstimate(None))
        spread = f" {interval_text(value, metric.kind)}" if value.ci95 else ""
        values.append(value_text(value.mean, metric.kind) + spread)
    return [recipe.label + (" (Pareto front)" if recipe.on_front else ""), *values, seconds(recipe.budget.get("train"))]
