"""The summary of a run or a comparison for the terminal: the key numbers as a table, and the verdict."""

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.cli.evaluation_text import NOT_JUDGED
from holdfast.cli.say import say
from holdfast.cli.tables import WIDEST, table
from holdfast.measure.metrics import METRICS, Metric
from holdfast.reporting.key_numbers import UNJUDGED_CARDS
from holdfast.reporting.likelihood import likelihood_tables
from holdfast.reporting.number_format import ShownEstimate, interval_text, seconds, value_text
from holdfast.reporting.pass_at_k import pass_at_k_tables
from holdfast.reporting.transitions import transition_tables
from holdfast.reporting.view import KIND_NAMES, RecipeView, SummaryView
from holdfast.summary.untrained import UNTRAINED

SHOWN = [metric for metric in METRICS.values() if metric.headline]
"""Metrics that the terminal's table of a comparison has room for. The report has all."""


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print a run's or a comparison's summary to standard output."""
    say(summary_as_text(summary))


def summary_as_text(summary: Mapping[str, Any]) -> str:
    """A table and the verdict. A run's table has scores by set and stage, a comparison's has metrics by recipe."""
    view = SummaryView(summary)
    width = min(WIDEST, shutil.get_terminal_size().columns)
    title = view.name if view.status == "complete" else f"{view.name} ({view.status})"
    sentences = [textwrap.fill(s, width, initial_indent="- ", subsequent_indent="  ") for s in view.verdict]
    tables = [_matrix(view), _transitions(view), _likelihood(view), _sampled(view)] if view.is_run else [_metrics(view)]
    return "\n".join([title, "", *(line for each in tables if each for line in (each, "")), *sentences])


def _matrix(view: SummaryView) -> str:
    """Scores in percent on every set, before the first stage and after each stage; a task's own stage is marked."""
    stages = view.stages(0)
    header = ["score, %", "kind", *(view.stage_name(stage, 0) for stage in stages)]
    rows = []
    for _, sets in view.sets_in_order(0):
        for each in sets:
            cells = [view.cell(view.recipes[0], 0, stage, each["name"]) for stage in stages]
            marked = [f"{value_text(c.mean, 'score')}{'*' if c.own else ' '}" if c else "–" for c in cells]
            if any(view.is_unjudged(view.recipes[0], 0, stage, each["name"]) for stage in stages):
                marked = [NOT_JUDGED] * len(stages)
            rows.append([each["name"], KIND_NAMES[each["kind"]], *marked])
    return table(header, rows) + "\n* right after the task's own stage"


def _transitions(view: SummaryView) -> str:
    """Items by set that were kept, lost, gained or never solved, and whether a change is shown."""
    return "\n".join(
        table(
            ["items", *(title.lower() for title in each["headers"][:4]), "change, points", "95% CI", "p", "shown"],
            [
                [f"{name} ({kind.rpartition(', ')[2]})", *cells[:4], *cells[6:9], remark]
                for name, kind, cells, remark in each["rows"]
            ],
        )
        for each in transition_tables(view)
    )


def _likelihood(view: SummaryView) -> str:
    """NLL of demonstrations in nats per token by set and stage; empty if no set has any."""
    return "\n".join(
        table(
            ["NLL, nats per token", "kind", *each["headers"]],
            [[name, kind, *(value for value, _ in cells)] for name, kind, cells, _ in each["rows"]],
        )
        for each in likelihood_tables(view)
    )


def _sampled(view: SummaryView) -> str:
    """pass@k and avg@k in percent by set and stage; empty if they were not measured."""
    return "\n".join(
        table(
            ["sampled, %", "stage", *each["headers"]],
            [[name, stage, *(value for value, _ in cells)] for name, _, stage, cells in each["rows"]],
        )
        for each in pass_at_k_tables(view)
    )


def _metrics(view: SummaryView) -> str:
    scored = any(recipe.metrics.get("final_score", ShownEstimate(None)).mean is not None for recipe in view.recipes)
    by_nll = any(recipe.metrics.get("nll", ShownEstimate(None)).mean is not None for recipe in view.recipes)
    shown = SHOWN if scored or not by_nll else [METRICS[name] for name in (*UNJUDGED_CARDS, "kl_to_base")]
    header = ["recipe", *(f"{metric.label.lower()}, {metric.unit}" for metric in shown), "training"]
    values = [value_text(view.untrained.get(m.name, ShownEstimate(None)).mean, m.kind) for m in shown]
    return table(header, [*(_row(recipe, shown) for recipe in view.recipes), [UNTRAINED, *values, "–"]])


def _row(recipe: RecipeView, shown: Sequence[Metric]) -> list[str]:
    values = []
    for metric in shown:
        value = recipe.metrics.get(metric.name, ShownEstimate(None))
        spread = f" {interval_text(value, metric.kind)}" if value.ci95 else ""
        values.append(value_text(value.mean, metric.kind) + spread)
    return [recipe.label + (" (Pareto front)" if recipe.on_front else ""), *values, seconds(recipe.budget.get("train"))]
