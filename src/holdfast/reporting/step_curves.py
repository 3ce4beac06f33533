"""Curves over optimizer steps: reward, KL to base, length, training loss, and the score and NLL on each set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from holdfast.reporting.figure import Figure, Spec, band, color, dash, layout, line, plot_text, symbol
from holdfast.reporting.number_format import DASH, number
from holdfast.reporting.view import CurvePoints, RecipeView, RunView, SummaryView, over_runs, stage_ends

TABLE_ROWS = 12
"""Steps in the table below a figure; more are thinned evenly."""

CurveValues = Callable[[RunView], Iterator[tuple[float, Any]]]


@dataclass(frozen=True)
class Curve:
    """What one figure over steps shows.

    Attributes:
        key: the figure's id within a task order.
        values: (global step, value) of a run.
        probe: the same quantity, measured within stages on fewer items. If it has more points it becomes the line, and
            `values` become marks on it.
        digits: format specification of the values.
    """

    key: str
    title: str
    note: str
    values: CurveValues
    digits: str
    probe: CurveValues | None = None
    marks: bool = False
    height: int = 280
    axis: Mapping[str, Any] = field(default_factory=dict)


def main_curves(view: SummaryView, order_index: int) -> list[Figure]:
    """Reward, KL to base and completion length; each figure has all recipes of one task order."""
    wanted = [
        Curve(
            "reward",
            "Reward",
            "Mean reward of the completions trained on, if the recipe computes rewards.",
            _from_curves("reward"),
            ".2f",
        ),
        Curve(
            "kl",
            "KL to base",
            "On the tasks' prompts, in nats per token. Marks are the ends of stages.",
            _kl_of_evaluations,
            ".3f",
            probe=_kl_of_probes,
            marks=True,
        ),
        Curve(
            "length",
            "Completion length",
            "Mean tokens of the completions trained on. For recipes that train on demonstrations, of those.",
            _from_curves("completion_length"),
            ".1f",
        ),
    ]
    drawn = [_figure(view, order_index, curve, view.recipes) for curve in wanted]
    return [figure for figure in drawn if figure is not None]


def loss_curves(view: SummaryView, order_index: int) -> list[Figure]:
    """The training loss, one figure per recipe, because losses of different recipes have no common scale."""
    drawn = []
    for recipe in view.recipes:
        curve = Curve(f"loss-{recipe.index}", recipe.label, "", _from_curves("loss"), ".4g", height=200)
        drawn.append(_figure(view, order_index, curve, [recipe], only=recipe.index))
    return [figure for figure in drawn if figure is not None]


def score_curves(view: SummaryView, order_index: int) -> list[Figure]:
    """The score on every set along the stream, one figure per set."""

    def curve(index: int, name: str) -> Curve:
        return Curve(
            f"score-{index}",
            f"Score on {name}",
            "In %. Marks are scores on the whole set after each stage. Lines between them are probes within the stage "
            "on fewer items, if there are probes.",
            _score_of_evaluations(name),
            ".1f",
            probe=_score_of_probes(name),
            marks=True,
            height=320,
            axis={"range": [-3, 105]},
        )

    return _per_set(view, order_index, curve)


def nll_curves(view: SummaryView, order_index: int) -> list[Figure]:
    """The NLL of every set's demonstrations along the stream, one figure per set that has some."""

    def curve(index: int, name: str) -> Curve:
        return Curve(
            f"nll-{index}",
            f"NLL of demonstrations of {name}",
            "In nats per token; lower is better. Marks are all items after each stage. Lines between them are probes "
            "within the stage on fewer items, if there are probes.",
            _nll_of_evaluations(name),
            ".3f",
            probe=_nll_of_probes(name),
            marks=True,
            height=320,
        )

    return _per_set(view, order_index, curve)


def _per_set(view: SummaryView, order_index: int, curve: Callable[[int, str], Curve]) -> list[Figure]:
    """A figure for each set for which there is something to draw."""
    drawn = [
        _figure(view, order_index, curve(index, chosen["name"]), view.recipes, filters={"set": index})
        for index, chosen in enumerate(view.sets)
    ]
    return [figure for figure in drawn if figure is not None]


def _figure(
    view: SummaryView,
    order_index: int,
    curve: Curve,
    recipes: Sequence[RecipeView],
    *,
    filters: Mapping[str, int] | None = None,
    only: int | None = None,
) -> Figure | None:
    traces: list[Spec] = []
    drawn: dict[str, CurvePoints] = {}
    for recipe in recipes:
        runs = recipe.of_order(order_index)
        series = over_runs(runs, curve.values)
        probed = over_runs(runs, curve.probe) if curve.probe else []
        if series:
            drawn[recipe.label] = series
            traces += _traces(recipe, series, probed if len(probed) > len(series) else [], curve)
    if not drawn:
        return None
    ends = view.boundaries(order_index)
    shapes, annotations = _stage_marks(ends)
    small = only is not None
    steps: Spec = {"range": [0, 1.01 * ends[-1]]} if ends else {}
    if not small:
        steps["title"] = {"text": "optimizer step"}
    shape = layout(
        height=curve.height,
        hovermode="x unified",
        xaxis=steps,
        yaxis={"rangemode": "tozero", "automargin": True, "nticks": 5 if small else 7, **curve.axis},
        shapes=shapes,
        annotations=annotations,
        margin={"l": 40, "r": 8, "t": 26, "b": 28 if small else 44},
    )
    headers, rows = _table(drawn, curve.digits)
    alt_text = "; ".join(
        f"{label}: from {s[0][1]:{curve.digits}} to {s[-1][1]:{curve.digits}}" for label, s in drawn.items()
    )
    return Figure(
        id=f"fig-{curve.key}-{order_index}",
        title=curve.title,
        note=curve.note,
        alt=f"{'Training loss of ' if small else ''}{curve.title} over optimizer steps. {alt_text}.",
        spec={"data": traces, "layout": shape},
        headers=headers,
        rows=rows,
        filters={"order": order_index, **(filters or {})},
        only=only,
    )


def _traces(recipe: RecipeView, series: CurvePoints, probed: CurvePoints, curve: Curve) -> list[Spec]:
    """A recipe's band, line and marks."""
    path = probed or series
    traces = [band(path, recipe)] if any(high > low for _, _, low, high in path) else []
    of_recipe = {"name": plot_text(recipe.label), "meta": {"recipe": recipe.index}}
    hover = {"hovertemplate": f"%{{y:{curve.digits}}}<extra>%{{fullData.name}}</extra>"}
    xs, ys = [x for x, *_ in path], [y for _, y, *_ in path]
    main = line(xs, ys, color(recipe), dash=dash(recipe), width=2 if curve.marks else 1.6) | of_recipe
    marks = {"cliponaxis": False, "marker": {"color": f"@{color(recipe)}", "symbol": symbol(recipe), "size": 8}}
    if not curve.marks:
        return [*traces, main | hover]
    if not probed:
        return [*traces, main | marks | hover | {"mode": "lines+markers"}]
    ends = {"type": "scatter", "mode": "markers", "x": [x for x, *_ in series], "y": [y for _, y, *_ in series]}
    return [*traces, main | {"hoverinfo": "skip", "showlegend": False}, ends | marks | of_recipe | hover]


def _table(drawn: Mapping[str, CurvePoints], digits: str) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    steps = sorted({x for series in drawn.values() for x, *_ in series})
    if len(steps) > TABLE_ROWS:
        steps = [steps[round(i * (len(steps) - 1) / (TABLE_ROWS - 1))] for i in range(TABLE_ROWS)]
    columns = [{x: y for x, y, *_ in series} for series in drawn.values()]
    rows = tuple(
        (f"{step:g}", *(f"{column[step]:{digits}}" if step in column else DASH for column in columns)) for step in steps
    )
    return ("Step", *drawn), rows


def _from_curves(name: str) -> CurveValues:
    def values(run: RunView) -> Iterator[tuple[float, Any]]:
        for point in run.summary.get("curves") or []:
            yield float(point["global_step"]), point.get(name)

    return values


def _kl_of_evaluations(run: RunView) -> Iterator[tuple[float, Any]]:
    ends = stage_ends(run)
    for evaluation in run.evaluations:
        known = [kl for s in evaluation["scores"].values() if (kl := number(s.get("kl_to_base"))) is not None]
        if known and evaluation["stage"] in ends:
            yield ends[evaluation["stage"]], fmean(known)


def _kl_of_probes(run: RunView) -> Iterator[tuple[float, Any]]:
    for probe in run.summary.get("probes") or []:
        yield float(probe["global_step"]), probe.get("kl_to_base")


def _score_of_evaluations(name: str) -> CurveValues:
    def values(run: RunView) -> Iterator[tuple[float, Any]]:
        for stage, step in stage_ends(run).items():
            score = run.score(stage, name)
            mean = number(score.get("mean")) if score else None
            if mean is not None:
                yield step, 100 * mean

    return values


def _score_of_probes(name: str) -> CurveValues:
    def values(run: RunView) -> Iterator[tuple[float, Any]]:
        for probe in run.summary.get("probes") or []:
            mean = number((probe.get("scores") or {}).get(name))
            if mean is not None:
                yield float(probe["global_step"]), 100 * mean

    return values


def _nll_of_evaluations(name: str) -> CurveValues:
    def values(run: RunView) -> Iterator[tuple[float, Any]]:
        for stage, step in stage_ends(run).items():
            yield step, (run.score(stage, name) or {}).get("nll")

    return values


def _nll_of_probes(name: str) -> CurveValues:
    def values(run: RunView) -> Iterator[tuple[float, Any]]:
        for probe in run.summary.get("probes") or []:
            yield float(probe["global_step"]), (probe.get("nll") or {}).get(name)

    return values


def _stage_marks(ends: Sequence[int]) -> tuple[list[Spec], list[Spec]]:
    """A line at each stage's end, and the stage's number above it."""
    shapes: list[Spec] = [
        {
            "type": "line",
            "x0": x,
            "x1": x,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "line": {"color": "@line", "width": 1, "dash": "dot"},
            "layer": "below",
        }
        for x in ends[:-1]
    ]
    annotations: list[Spec] = [
        {
            "x": (start + end) / 2,
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "text": str(stage),
            "showarrow": False,
            "font": {"color": "@muted", "size": 12},
        }
        for stage, (start, end) in enumerate(zip([0, *ends], ends), 1)
    ]
    return shapes, annotations
