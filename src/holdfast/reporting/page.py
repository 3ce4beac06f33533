"""The report page: one HTML file that works offline, in light and dark, made from a summary alone.

A content security policy in the page allows only its own scripts (by hash) and no request at all. So a report that is
passed on cannot load anything, whatever text a model wrote into a completion.
"""

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from holdfast.measure.metrics import METRICS
from holdfast.reporting.accuracy_matrix import accuracy_matrices
from holdfast.reporting.artifacts import artifact_panels
from holdfast.reporting.before_and_after import before_and_after_figure
from holdfast.reporting.budget import budget_table
from holdfast.reporting.differences import matched_differences, paired_differences
from holdfast.reporting.figure import Figure, color, glyph
from holdfast.reporting.forgetting_prediction import forgetting_prediction_figure
from holdfast.reporting.guard_decisions import guard_decisions
from holdfast.reporting.key_numbers import cards, metric_groups
from holdfast.reporting.likelihood import likelihood_tables, right_answer_tables
from holdfast.reporting.pass_at_k import pass_at_k_tables
from holdfast.reporting.provenance import date_text, facts, provenance, recipe_settings
from holdfast.reporting.response_drift import response_drift
from holdfast.reporting.samples import sample_panels
from holdfast.reporting.step_curves import loss_curves, main_curves, nll_curves, score_curves
from holdfast.reporting.terms import GENERAL_TERMS
from holdfast.reporting.tradeoff import tradeoff_figure
from holdfast.reporting.transitions import transition_tables
from holdfast.reporting.view import KIND_NAMES, SummaryView
from holdfast.reporting.voice import voice_section
from holdfast.reporting.weight_drift import weight_drift
from holdfast.store.files import write_text

TEMPLATES = Path(__file__).parent / "templates"


def write_report(summary: Mapping[str, Any], path: Path) -> Path:
    """Write the report of a run's or a comparison's summary; the file is replaced in one step.

    Args:
        summary: as in `summary.json`. If the run is not complete, the report shows what has been measured.
        path: the HTML file; its folder is created if it is missing.
    """
    path = Path(path)
    write_text(path, render_report(summary))
    return path


def render_report(summary: Mapping[str, Any]) -> str:
    """The report as HTML text of about 5 MB; most of it is plotly.js, which every report contains."""
    view = SummaryView(summary)
    content = _content(view)
    scripts = {name: Markup(_template(f"{name}.js")) for name in ("theme", "page", "draw", "save")}
    scripts["plotly"] = Markup(_plotly())
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            **content,
            summary=summary,
            view=view,
            specs={figure.id: figure.spec for figure in _figures(content)},
            sections=_sections(view, content),
            css=Markup(_template("style.css")),
            scripts=scripts,
            policy=_policy(scripts.values()),
        )
    )


@cache
def templates() -> Environment:
    """The page's templates. Compiling them takes longer than filling them in, so they are kept."""
    environment = Environment(
        loader=PackageLoader("holdfast.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["soft"] = _soft
    environment.globals.update(color=color, glyph=glyph, kind_names=KIND_NAMES)
    return environment


def all_figures(summary: Mapping[str, Any]) -> list[Figure]:
    """Every figure of the report, in the order of the page."""
    return _figures(_content(SummaryView(summary)))


def _content(view: SummaryView) -> dict[str, Any]:
    """What each section shows, by the name that the templates use."""
    return {
        "created": date_text(view.summary.get("created")),
        "facts": facts(view),
        "cards": cards(view),
        "card_columns": _card_columns(len(view.recipes)),
        "metric_groups": metric_groups(view),
        "main_figure": before_and_after_figure(view) if view.is_run else tradeoff_figure(view),
        "matrices": accuracy_matrices(view),
        "transitions": transition_tables(view),
        "likelihood": likelihood_tables(view),
        "right_answers": right_answer_tables(view),
        "pass_at_k": pass_at_k_tables(view),
        "voice": voice_section(view),
        "curve_groups": [
            {
                "order": i,
                "curves": main_curves(view, i),
                "losses": loss_curves(view, i),
                "scores": [*score_curves(view, i), *nll_curves(view, i)],
            }
            for i in range(len(view.orders))
            if view.boundaries(i)
        ],
        "score_options": [(i, s["name"]) for i, s in enumerate(view.sets)],
        "order_options": [(i, " → ".join(order)) for i, order in enumerate(view.orders)],
        "guard": guard_decisions(view),
        "drift": weight_drift(view),
        "responses": response_drift(view),
        "prediction": forgetting_prediction_figure(view),
        "artifacts": artifact_panels(view),
        "samples": sample_panels(view),
        "paired": paired_differences(view),
        "matched": matched_differences(view),
        "budget": budget_table(view),
        "definitions": [(metric.label, metric.definition) for metric in METRICS.values()] + GENERAL_TERMS,
        "provenance": provenance(view),
        "recipe_settings": [(recipe, *recipe_settings(recipe)) for recipe in view.recipes],
    }


def _figures(content: Mapping[str, Any]) -> list[Figure]:
    figures: list[Figure | None] = [content["main_figure"]]
    for group in content["curve_groups"]:
        figures += [*group["curves"], *group["losses"], *group["scores"]]
    figures += [*content["guard"]["figures"], *content["drift"]["along"], *content["drift"]["maps"]]
    figures += [*content["responses"]["figures"], content["prediction"]]
    figures += [panel["figure"] for panel in content["artifacts"]["panels"]]
    return [figure for figure in figures if figure is not None]


def _sections(view: SummaryView, content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(id, title) of the sections that the page has, for its navigation bar; titles are short, so that all fit."""
    known = [
        ("verdict", "Verdict", True),
        ("summary", "Numbers", True),
        ("tradeoff", "Before and after" if view.is_run else "Trade-off", content["main_figure"]),
        ("matrix", "Matrix", True),
        ("transitions", "Items", content["transitions"]),
        ("likelihood", "Likelihood", content["likelihood"] or content["right_answers"]),
        ("pass-at-k", "Sampled", content["pass_at_k"]),
        ("voice", "Voice", content["voice"]["distances"] or content["voice"]["rewritten"]),
        ("curves", "Curves", content["curve_groups"]),
        ("guard", "Guard", content["guard"]["measured"]),
        ("drift", "Weights", content["drift"]["panels"]),
        ("responses", "Responses", content["responses"]["tables"]),
        ("forgetting", "Prediction", content["prediction"]),
        ("artifacts", "Artifacts", content["artifacts"]["panels"]),
        ("samples", "Samples", content["samples"]["panels"]),
        ("differences", "Differences", content["paired"]["rows"] or content["matched"]["rows"]),
        ("budget", "Budget", True),
        ("reading", "Definitions", True),
    ]
    return [(section, title) for section, title, there in known if there]


def _card_columns(cards: int) -> int:
    """Cards per row on a wide screen: at most five, in rows as even as possible."""
    return math.ceil(cards / math.ceil(cards / 5)) if cards else 1


def _policy(scripts: Iterable[str]) -> str:
    """The content security policy. Plotly writes inline styles, and images from data: and blob: URLs."""
    hashes = [base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # 5 MB, so it is read only when a report is written

    return str(get_plotlyjs())


def _soft(name: Any) -> Markup:
    """A name that may break after its underscores, hyphens and dots, so that long names fit narrow columns."""
    text = escape(name)
    for mark in "_-.":
        text = Markup(str(text).replace(mark, f"{mark}<wbr>"))
    return text
