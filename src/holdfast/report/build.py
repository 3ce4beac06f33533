"""The HTML report: one file that works offline, in light and dark, from nothing but a summary.

A content security policy in the page lets it run its own scripts (by hash) and load nothing at all, so that a
report handed on cannot call home, whatever a model's completions contain.
"""

import base64
import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from holdfast.measure.metrics import METRICS
from holdfast.report import blocks, curves, figures
from holdfast.report.heat import heat_matrices
from holdfast.report.numbers import GENERAL_TERMS
from holdfast.report.plot import Figure, color, glyph
from holdfast.report.view import View
from holdfast.store.files import write_text


def write_report(summary: Mapping[str, Any], path: Path) -> Path:
    """Write the report of a run's or a comparison's summary; the file appears whole or not at all.

    Args:
        summary: as in `summary.json`; of a run that is not complete, what is there is shown.
        path: the HTML file; its folder is made where it is missing.
    """
    path = Path(path)
    write_text(path, render_report(summary))
    return path


def render_report(summary: Mapping[str, Any]) -> str:
    """The report as a page of about 5 MB, most of it plotly.js, which every report carries with it."""
    view = View(summary)
    environment = Environment(
        loader=PackageLoader("holdfast.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["soft"] = _soft
    environment.filters["inline"] = _inline
    environment.globals.update(color=color, glyph=glyph)

    main_figure = _main_figure(view)
    curve_groups = [
        {
            "order": i,
            "curves": curves.curves(view, i),
            "losses": curves.losses(view, i),
            "scores": curves.scores(view, i),
        }
        for i in range(len(view.orders))
        if view.boundaries(i)
    ]
    drawn: list[Figure] = [main_figure] if main_figure else []
    for group in curve_groups:
        drawn += [*group["curves"], *group["losses"], *group["scores"]]  # type: ignore[misc]
    context = {
        "summary": summary,
        "view": view,
        "main_figure": main_figure,
        "columns": _columns(len(view.arms)),
        "matrices": heat_matrices(view),
        "curve_groups": curve_groups,
        "score_options": [(i, s["name"]) for i, s in enumerate(view.sets)],
        "order_options": [(i, " → ".join(order)) for i, order in enumerate(view.orders)],
        "definitions": [(metric.label, metric.definition) for metric in METRICS.values()] + GENERAL_TERMS,
        **blocks.all_blocks(view),
    }
    drawn += measured_figures(context)
    context["specs"] = {figure.id: figure.spec for figure in drawn if not figure.drawing}
    context["sections"] = _sections(context)
    scripts = {name: Markup(_asset(f"{name}.js")) for name in ("theme", "page", "draw", "save")}
    scripts["plotly"] = Markup(_plotly())
    return environment.get_template("report.html.j2").render(
        **context, css=Markup(_asset("style.css")), scripts=scripts, policy=_policy(scripts.values())
    )


def _columns(cards: int) -> int:
    """Cards beside each other on a wide screen: at most five, in rows as even as can be."""
    return math.ceil(cards / math.ceil(cards / 5)) if cards else 1


def _sections(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    view: View = context["view"]
    known = [
        ("verdict", "Verdict", True),
        ("summary", "Numbers", True),
        ("tradeoff", "Before and after" if view.is_run else "Trade-off", context["main_figure"]),
        ("matrix", "Matrix", True),
        ("curves", "Curves", context["curve_groups"]),
        ("guard", "Guard", context["guard"]["measured"]),
        ("drift", "Drift", context["drift"]["panels"]),
        ("responses", "Responses", context["responses"]["tables"]),
        ("forgetting", "Forgetting", context["predicted"]),
        ("artifacts", "Artifacts", context["artifacts"]["panels"]),
        ("samples", "Samples", context["samples"]["panels"]),
        ("differences", "Differences", context["paired"]["rows"] or context["matched"]["rows"]),
        ("budget", "Budget", True),
        ("reading", "Reading", True),
    ]
    return [(section, title) for section, title, there in known if there]


def all_figures(summary: Mapping[str, Any]) -> list[Figure]:
    """Every figure of the report, in its order."""
    view = View(summary)
    main = _main_figure(view)
    over_steps = [
        figure
        for i in range(len(view.orders))
        if view.boundaries(i)
        for make in (curves.curves, curves.losses, curves.scores)
        for figure in make(view, i)
    ]
    return [*([main] if main else []), *over_steps, *measured_figures(blocks.all_blocks(view))]


def _main_figure(view: View) -> Figure | None:
    return figures.by_set(view) if view.is_run else figures.tradeoff(view)


def measured_figures(measured: Mapping[str, Any]) -> list[Figure]:
    """The figures of what was measured beside the scores: guard, drift, answers, artifacts, forgetting predicted."""
    figures: list[Figure] = [*measured["guard"]["figures"], *measured["drift"]["along"], *measured["drift"]["maps"]]
    grown = [panel["figure"] for panel in measured["artifacts"]["panels"] if panel["figure"]]
    predicted = [measured["predicted"]] if measured["predicted"] else []
    return [*figures, *measured["responses"]["figures"], *predicted, *grown]


def _inline(drawing: str) -> Markup:
    """A drawing in the page, its colors following the theme."""
    return Markup(re.sub(r'="@([\w-]+)"', r'="var(--\1)"', drawing))


def _policy(scripts: Any) -> str:
    """Scripts by hash and nothing from anywhere; plotly writes styles and draws images of its own."""
    hashes = [base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # 5 MB, wanted only when a report is written

    return str(get_plotlyjs())


def _soft(name: Any) -> Markup:
    """A name that may be broken after its underscores, hyphens and dots."""
    text = escape(name)
    for mark in "_-.":
        text = Markup(str(text).replace(mark, f"{mark}<wbr>"))
    return text
