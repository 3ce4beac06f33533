"""The figures over optimiser steps: reward, loss, KL to base, completion length, and the score on every set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from holdfast.report.numbers import DASH, number
from holdfast.report.plot import Figure, Spec, band, colour, dash, layout, line, plot_text, symbol
from holdfast.report.view import Arm, Run, Series, View, over_runs, stage_ends

TABLE_ROWS = 12


def curves(view: View, order_index: int) -> list[Figure]:
    """Reward, completion length and KL to base over steps, all recipes of one task order in each."""
    found = [
        _curve(view, order_index, "reward", "Reward of the rows trained on",
               "Mean reward of each step's completions; what a recipe trains on without judging it has none.",
               _from_curves("reward"), ".2f"),
        _curve(view, order_index, "kl", "KL to base",
               "On the tasks' prompts, nats per token, at the end of each stage; dotted: smaller probes within a stage.",
               _kl_of_evaluations, ".3f", probe=_kl_of_probes, markers=True),
        _curve(view, order_index, "length", "Completion length",
               "Mean tokens per completion trained on; for demonstrations, theirs.",
               _from_curves("completion_length"), ".1f"),
    ]  # fmt: skip
    return [figure for figure in found if figure is not None]


def losses(view: View, order_index: int) -> list[Figure]:
    """The training loss, one panel per recipe, because losses of different recipes have no common scale."""
    found = [
        _curve(
            view, order_index, f"loss-{arm.index}", arm.label, "", _from_curves("loss"), ".4g", arms=[arm], height=210
        )
        for arm in view.arms
    ]
    return [figure for figure in found if figure is not None]


def scores(view: View, order_index: int) -> list[Figure]:
    """The score on every set along the stream, one figure per set."""
    found = []
    for index, chosen in enumerate(view.sets):
        name = chosen["name"]
        figure = _curve(
            view, order_index, f"score-{index}", f"Score on {name}",
            "After each stage on the whole set; dotted: probes within a stage, on fewer items.",
            _score_of_evaluations(name), ".1f", probe=_score_of_probes(name), markers=True, filters={"set": index},
        )  # fmt: skip
        if figure is not None:
            figure.spec["layout"]["yaxis"]["range"] = [-3, 105]
            found.append(figure)
    return found


def _curve(
    view: View,
    order_index: int,
    key: str,
    title: str,
    note: str,
    values: Callable[[Run], Iterator[tuple[float, Any]]],
    digits: str,
    *,
    probe: Callable[[Run], Iterator[tuple[float, Any]]] | None = None,
    markers: bool = False,
    arms: Sequence[Arm] | None = None,
    height: int = 290,
    filters: Mapping[str, int] | None = None,
) -> Figure | None:
    traces: list[Spec] = []
    drawn: dict[str, Series] = {}
    for arm in view.arms if arms is None else arms:
        runs = arm.of_order(order_index)
        series = over_runs(runs, values)
        probed = over_runs(runs, probe) if probe else []
        if not series:
            continue
        drawn[arm.label] = series
        if any(high > low for _, _, low, high in series):
            traces.append(band(series, arm))
        if probed:
            thin = line([x for x, *_ in probed], [y for _, y, *_ in probed], colour(arm), dash="dot", width=1.2)
            traces.append(
                {**thin, "name": f"{plot_text(arm.label)}, probe", "hoverinfo": "skip", "meta": {"arm": arm.index}}
            )
        main = line([x for x, *_ in series], [y for _, y, *_ in series], colour(arm), dash=dash(arm), width=2)
        if markers:
            main |= {"mode": "lines+markers", "marker": {"color": f"@{colour(arm)}", "symbol": symbol(arm), "size": 8}}
        hover = f"%{{y:{digits}}}<extra>%{{fullData.name}}</extra>"
        traces.append({**main, "name": plot_text(arm.label), "hovertemplate": hover, "meta": {"arm": arm.index}})
    if not drawn:
        return None
    shapes, annotations = _stage_marks(view, order_index)
    shape = layout(
        height=height,
        hovermode="x unified",
        xaxis={"title": {"text": "optimiser step"}, "rangemode": "tozero"},
        yaxis={"rangemode": "tozero", "automargin": True},
        shapes=shapes,
        annotations=annotations,
    )
    headers, rows = _series_table(drawn, digits)
    ends = "; ".join(f"{label}: from {s[0][1]:{digits}} to {s[-1][1]:{digits}}" for label, s in drawn.items())
    return Figure(
        id=f"fig-{key}-{order_index}",
        title=title,
        note=note,
        alt=f"Lines over optimiser steps: {title}. {ends}.",
        spec={"data": traces, "layout": shape},
        headers=headers,
        rows=rows,
        filters={"order": order_index, **(filters or {})},
    )


def _series_table(drawn: Mapping[str, Series], digits: str) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    steps = sorted({x for series in drawn.values() for x, *_ in series})
    if len(steps) > TABLE_ROWS:
        steps = [steps[round(i * (len(steps) - 1) / (TABLE_ROWS - 1))] for i in range(TABLE_ROWS)]
    lookup = [{x: y for x, y, *_ in series} for series in drawn.values()]
    rows = tuple(
        (f"{step:g}", *(f"{column[step]:{digits}}" if step in column else DASH for column in lookup)) for step in steps
    )
    return ("Step", *drawn), rows


def _from_curves(field: str) -> Callable[[Run], Iterator[tuple[float, Any]]]:
    def values(run: Run) -> Iterator[tuple[float, Any]]:
        for point in run.summary.get("curves") or []:
            yield float(point["global_step"]), point.get(field)

    return values


def _kl_of_evaluations(run: Run) -> Iterator[tuple[float, Any]]:
    ends = stage_ends(run)
    for evaluation in run.evaluations:
        known = [kl for s in evaluation["scores"].values() if (kl := number(s.get("kl_to_base"))) is not None]
        if known and evaluation["stage"] in ends:
            yield ends[evaluation["stage"]], fmean(known)


def _kl_of_probes(run: Run) -> Iterator[tuple[float, Any]]:
    for probe in run.summary.get("probes") or []:
        yield float(probe["global_step"]), probe.get("kl_to_base")


def _score_of_evaluations(name: str) -> Callable[[Run], Iterator[tuple[float, Any]]]:
    def values(run: Run) -> Iterator[tuple[float, Any]]:
        ends = stage_ends(run)
        for stage, step in ends.items():
            found = run.score(stage, name)
            mean = number(found.get("mean")) if found else None
            if mean is not None:
                yield step, 100 * mean

    return values


def _score_of_probes(name: str) -> Callable[[Run], Iterator[tuple[float, Any]]]:
    def values(run: Run) -> Iterator[tuple[float, Any]]:
        for probe in run.summary.get("probes") or []:
            mean = number((probe.get("scores") or {}).get(name))
            if mean is not None:
                yield float(probe["global_step"]), 100 * mean

    return values


def _stage_marks(view: View, order_index: int) -> tuple[list[Spec], list[Spec]]:
    """A line at each stage's end, and the stage's task above it."""
    ends = view.boundaries(order_index)
    order = view.orders[order_index]
    shapes = [
        {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper",
         "line": {"color": "@line", "width": 1, "dash": "dot"}, "layer": "below"}
        for x in ends[:-1]
    ]  # fmt: skip
    annotations = [
        {"x": (start + end) / 2, "y": 1, "yref": "paper", "yanchor": "bottom", "text": f"{stage}", "showarrow": False,
         "font": {"color": "@muted", "size": 12}, "hovertext": plot_text(task)}
        for stage, (start, end, task) in enumerate(zip([0, *ends], ends, order), 1)
    ]  # fmt: skip
    return shapes, annotations
