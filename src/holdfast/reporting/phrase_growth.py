"""How the share of answers with a phrase grows over the stages: a small curve per table row, and one figure."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from holdfast.reporting.figure import COLORS, SYMBOLS, Figure, Spec, layout, line, plot_text
from holdfast.reporting.number_format import DASH, percent
from holdfast.reporting.view import RecipeView

MOST = 6
"""Phrases in the figure; more lines cannot be told apart."""

LONGEST = 32
"""Characters of a phrase in the legend."""

WIDTH, HEIGHT = 148, 34
"""Pixels of a small curve."""


@dataclass(frozen=True)
class GrowthCurve:
    """The share of answers that contain a phrase, from 0 to 1.

    Attributes:
        where: the set of the answers; empty for all sets.
        points: (stage, share); stage 0 is the base model.
        between: (fraction of stages, share) at probes; 0.5 is the middle of the first stage.
        demonstrations: share of the demonstrations that contain the phrase.
    """

    phrase: str
    where: str
    points: Sequence[tuple[int, float]]
    between: Sequence[tuple[float, float]]
    demonstrations: float | None

    @property
    def path(self) -> list[tuple[float, float]]:
        """Points and probes in order."""
        return sorted([*self.points, *self.between])

    @property
    def name(self) -> str:
        short = self.phrase if len(self.phrase) <= LONGEST else self.phrase[: LONGEST - 1] + "…"
        return f"{short} · {self.where}" if self.where else short


def small_curve(recipe: RecipeView, curve: GrowthCurve) -> Markup:
    """The curve of a table row as inline SVG, from 0 to 100%; a dotted line is the demonstrations' share.

    This is not a plotly figure: a table has dozens of rows, and a plotly figure for each would make the page slow.
    """
    if len(curve.points) < 2:
        return Markup("")
    first, last = curve.points[0][0], curve.points[-1][0]

    def at(stage: float, share: float) -> str:
        x = 5 + (WIDTH - 10) * (stage - first) / (last - first)
        return f"{x:.1f},{5 + (HEIGHT - 10) * (1 - share):.1f}"

    path = " ".join(at(s, x) for s, x in curve.path)
    alt_text = html.escape("; ".join(f"stage {s}: {percent(x)}%" for s, x in curve.points))
    places = [at(s, x).split(",") for s, x in curve.points]
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="2.4"/>' for x, y in places)
    shade = f"var(--c{recipe.index % COLORS})"
    dotted = ""
    if curve.demonstrations is not None:
        y = 5 + (HEIGHT - 10) * (1 - curve.demonstrations)
        dotted = (
            f'<line x1="5" x2="{WIDTH - 5}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--muted)" stroke-dasharray="1 3"/>'
        )
    floor = f'<line x1="5" x2="{WIDTH - 5}" y1="{HEIGHT - 5}" y2="{HEIGHT - 5}" stroke="var(--line)"/>'
    return Markup(
        f'<svg class="spark" xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(curve.phrase)}: {alt_text}">'
        f"<title>{alt_text}</title>"
        f'{floor}{dotted}<polyline points="{path}" fill="none" stroke="{shade}" stroke-width="1.8"/>'
        f'<g fill="{shade}">{dots}</g></svg>'
    )


def growth_figure(recipe: RecipeView, curves: Sequence[GrowthCurve]) -> Figure | None:
    """The first `MOST` phrases of a recipe, a line each; None if no phrase was measured at two stages."""
    drawn = [curve for curve in curves if len(curve.points) > 1][:MOST]
    if not drawn:
        return None
    stages = sorted({stage for curve in drawn for stage, _ in curve.points})
    traces: list[Spec] = []
    for k, curve in enumerate(drawn):
        xs, ys = [stage for stage, _ in curve.path], [100 * share for _, share in curve.path]
        shade = f"c{k % COLORS}"
        traces.append(
            line(xs, ys, shade)
            | {
                "mode": "lines+markers",
                "marker": {"color": f"@{shade}", "symbol": SYMBOLS[k], "size": 8},
                "cliponaxis": False,
                "name": plot_text(curve.name),
                "hovertemplate": "%{y:.1f}%<extra>%{fullData.name}</extra>",
            }
        )
    names = ["base" if stage == 0 else f"stage {stage}" for stage in stages]
    alt_text = "; ".join(f"{c.name}: {percent(c.points[0][1])} to {percent(c.points[-1][1])}%" for c in drawn)
    shares = [dict(curve.points) for curve in drawn]
    return Figure(
        id=f"fig-artifacts-{recipe.index}",
        title=f"Growth of the clearest phrases, {recipe.label}",
        note="Share of answers that contain the phrase: the base model's, and the model's after each stage."
        + (" Points between stages are probes on the first items." if any(curve.between for curve in drawn) else ""),
        alt=f"Lines of the share of answers with a phrase by stage. {alt_text}.",
        spec={
            "data": traces,
            "layout": layout(
                height=320,
                showlegend=True,
                legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
                xaxis={
                    "tickvals": stages,
                    "ticktext": names,
                    "range": [stages[0] - 0.08, stages[-1] + 0.08],
                    "showgrid": False,
                },
                yaxis={"title": {"text": "share of answers, %"}, "range": [0, 102], "nticks": 6, "automargin": True},
            ),
        },
        headers=("Phrase", *names),
        rows=tuple(
            (curve.name, *(percent(known.get(s)) if s in known else DASH for s in stages))
            for curve, known in zip(drawn, shares, strict=True)
        ),
        filters={"recipe": recipe.index},
    )
