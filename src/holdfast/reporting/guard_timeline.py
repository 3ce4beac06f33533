"""The guard's timeline of a run: the reward over steps with numbered decisions, and the metrics that the rules read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.reporting.figure import Figure, Spec, axis, color, layout, line, plot_text
from holdfast.reporting.number_format import DASH, number
from holdfast.reporting.view import RecipeView, RunView

FIELDS = {
    "reward": "reward",
    "entropy": "entropy, nats",
    "kl_teacher": "KL to teacher, nats",
    "teacher_divergence": "divergence to teacher",
    "kl_to_base": "KL to base, nats",
    "kl_base": "KL to base in the loss, nats",
    "repetition": "share of repeated bigrams",
    "truncated_fraction": "share truncated",
    "distinct_2": "distinct-2",
    "active_rows": "rows with a training signal",
    "teacher_share": "share of rows with a teacher",
    "is_ratio_mean": "importance ratio, trainer / sampler",
    "grad_norm": "gradient norm",
    "loss": "loss",
}
"""Fields of a run's curves that a panel can show, with the axis title; `kl_to_base` is measured by the probes."""

READ_BY_RULE: Mapping[str, tuple[str, ...]] = {
    "not_finite": ("loss", "grad_norm"),
    "stale_sampler": ("is_ratio_mean",),
    "agreement_without_success": ("teacher_divergence", "kl_teacher"),
    "reward_collapse": (),
    "entropy_collapse": ("entropy", "distinct_2"),
    "distinct_collapse": ("distinct_2", "entropy"),
    "repetition": ("repetition",),
    "truncation": ("truncated_fraction",),
    "silent_stall": ("active_rows", "teacher_share"),
    "kl_budget": ("kl_to_base", "kl_base"),
    "retention": (),
}
"""The metrics that each rule of the guard reads, apart from the reward. Scores of suites have their own figures."""

SHADES = {"note": "muted", "warning": "c4", "critical": "bad"}
"""Color of a decision by its severity."""

MOST_PANELS = 4


@dataclass(frozen=True)
class GuardedRun:
    """A run with the decisions of its guard; `name` says which run it is."""

    recipe: RecipeView
    run: RunView
    name: str
    decisions: Sequence[Mapping[str, Any]]


class _Steps:
    """Positions of a run's steps on the x axis: stage after stage, each as long as its furthest step.

    The furthest step may have been rolled back. If a roll-back ends a stage, the discarded steps still get room on the
    axis, so that they do not cover the next stage.
    """

    def __init__(self, run: RunView) -> None:
        self.kept: dict[int, int] = {}
        for p in run.summary.get("curves") or []:
            self.kept[int(p["stage"])] = max(self.kept.get(int(p["stage"]), 0), int(p["step"]))
        furthest = dict(self.kept)
        reached = [(d.get("stage") or 1, d.get("step") or 0) for d in run.summary.get("decisions") or []]
        reached += [(each["stage"], each["to_step"]) for each in run.summary.get("discarded") or []]
        for stage, step in reached:
            furthest[int(stage)] = max(furthest.get(int(stage), 0), int(step))
        self.ends = {0: 0}
        for stage in range(1, max(furthest, default=0) + 1):
            self.ends[stage] = self.ends[stage - 1] + furthest.get(stage, 0)

    @property
    def last(self) -> int:
        return max(self.ends.values())

    def at(self, where: Mapping[str, Any]) -> float:
        """The position of a curve point, a probe or a decision; each has a stage and a step."""
        return float(self.ends.get(int(where.get("stage") or 1) - 1, self.last) + (where.get("step") or 0))

    def has_room_after(self, stage: int) -> bool:
        """Whether discarded steps come between the last kept step of a stage and the next stage."""
        start, end = (self.ends.get(s, self.last) for s in (stage - 1, stage))
        return end - start > self.kept.get(stage, 0)


def _kept(run: RunView, field: str, steps: _Steps) -> list[list[tuple[float, float]]]:
    """A field over the kept steps as (position, value), in pieces, so that no line crosses discarded steps."""
    source = run.summary.get("probes" if field == "kl_to_base" else "curves") or []
    pieces: list[list[tuple[float, float]]] = [[]]
    stage = 0
    for point in source:
        if (value := number(point.get(field))) is None:
            continue
        if pieces[-1] and any(steps.has_room_after(s) for s in range(stage, int(point["stage"]))):
            pieces.append([])
        stage = int(point["stage"])
        pieces[-1].append((steps.at(point), value))
    return [piece for piece in pieces if piece]


def _discarded(run: RunView, field: str, steps: _Steps) -> list[list[tuple[float, float]]]:
    """A field over the steps that were rolled back, in pieces."""
    pieces = []
    for each in run.summary.get("discarded") or []:
        piece = [
            (steps.at({"stage": each["stage"], "step": p["step"]}), x)
            for p in each.get("curve") or []
            if (x := number(p.get(field))) is not None
        ]
        pieces += [piece] if piece else []
    return pieces


def _shown_fields(guarded: GuardedRun, steps: _Steps) -> list[str]:
    """The fields of the panels: the reward, then the first metric of each rule that fired, then the second of each.

    If the run has none of these, the loss.
    """
    fired = list(dict.fromkeys(READ_BY_RULE.get(str(d.get("rule")), ()) for d in guarded.decisions))
    turns = range(max(map(len, fired), default=0))
    wanted = dict.fromkeys(["reward", *(fields[turn] for turn in turns for fields in fired if turn < len(fields))])

    def is_known(field: str) -> bool:
        run = guarded.run
        return sum(len(piece) for of in (_kept, _discarded) for piece in of(run, field, steps)) > 1

    return ([f for f in wanted if is_known(f)] or [f for f in ("loss",) if is_known(f)])[:MOST_PANELS]


def guard_timeline(guarded: GuardedRun, place: int) -> Figure | None:
    """The reward with the decisions on it, below it the metrics that the rules read; discarded steps are gray.

    None if the run has no curves.

    Args:
        place: index of the run among those with decisions.
    """
    run, steps = guarded.run, _Steps(guarded.run)
    fields = _shown_fields(guarded, steps)
    if not fields:
        return None
    shade = color(guarded.recipe)
    domains = _domains(len(fields))
    traces: list[Spec] = []
    for k, field in enumerate(fields):
        on_axis = {"yaxis": f"y{k + 1}" if k else "y", "showlegend": False}
        kept, discarded = _kept(run, field, steps), _discarded(run, field, steps)
        for piece in discarded:
            traces.append(
                line([x for x, _ in piece], [y for _, y in piece], "muted/0.55", width=1.4)
                | on_axis
                | {"name": "rolled back", "hovertemplate": "%{y:.3g}<extra>rolled back</extra>"}
            )
        for piece in kept:
            traces.append(
                line([x for x, _ in piece], [y for _, y in piece], shade, width=1.8)
                | on_axis
                | {"name": FIELDS[field], "hovertemplate": "%{y:.3g}<extra>%{fullData.name}</extra>"}
            )
        if k == 0:
            traces += _marks(guarded, steps, max([y for piece in (*kept, *discarded) for _, y in piece] + [0.0]))
    shapes = [_decision_line(steps.at(d), d) for d in guarded.decisions]
    shapes += [
        {
            "type": "rect", "x0": start, "x1": end, "y0": 0, "y1": 1, "yref": "paper",
            "fillcolor": "@muted/0.10", "line": {"width": 0}, "layer": "below",
        }
        for start, end in _discarded_ranges(run, steps)
    ]  # fmt: skip
    shapes += [
        {
            "type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper",
            "line": {"color": "@line", "width": 1, "dash": "dot"}, "layer": "below",
        }
        for x in steps.ends.values() if 0 < x < steps.last
    ]  # fmt: skip
    axes: Spec = {}
    for k, field in enumerate(fields):
        panel = axis({"title": {"text": FIELDS[field]}, "nticks": 5, "rangemode": "tozero", "automargin": True})
        axes[f"yaxis{k + 1}" if k else "yaxis"] = panel | {"domain": domains[k]}
    bottom = f"y{len(fields)}" if len(fields) > 1 else "y"
    rows = tuple(
        (str(i), str(d.get("stage") or DASH), str(d.get("step") or DASH), str(d.get("rule")), _actions(d))
        for i, d in enumerate(guarded.decisions, 1)
    )
    alt_text = "; ".join(f"{i}: {rule} at step {step} of stage {stage}, {done}" for i, stage, step, rule, done in rows)
    over = FIELDS[fields[0]].partition(",")[0]
    return Figure(
        id=f"fig-guard-{place}",
        title=f"Decisions over the {over}, {guarded.name}",
        note=_note(run, steps, len(fields)),
        alt=f"{over[0].upper()}{over[1:]} over optimizer steps with {len(guarded.decisions)} decisions. {alt_text}.",
        spec={
            "data": traces,
            "layout": layout(
                height=250 + 120 * (len(fields) - 1),
                hovermode="x unified" if len(fields) == 1 else "closest",
                xaxis={"title": {"text": "optimizer step"}, "range": [0, 1.02 * steps.last], "anchor": bottom},
                yaxis={},
                shapes=shapes,
                margin={"l": 48, "r": 12, "t": 28, "b": 44},
            )
            | axes,
        },
        headers=("Decision", "Stage", "Step", "Rule", "Actions"),
        rows=rows,
        filters={"run": place},
    )


def _note(run: RunView, steps: _Steps, panels: int) -> str:
    note = (
        "Numbered marks are the decisions listed below: amber is a warning, red is critical, gray is planned by the "
        "recipe. "
    )
    discarded = sum(int(d["to_step"]) - int(d["from_step"]) + 1 for d in run.summary.get("discarded") or [])
    if discarded:
        note += f"{discarded} steps were rolled back (gray); they count in the budget. "
    if any(steps.has_room_after(stage) for stage in steps.ends if 0 < stage < max(steps.ends)):
        note += "Steps rolled back at the end of a stage are shown before the next stage and shift it to the right. "
    return note + ("The lower panels show the metrics that the rules read." if panels > 1 else "")


def _domains(count: int) -> list[list[float]]:
    """Vertical range of each panel; the first is on top and twice as high as the others."""
    gap = 0.07
    unit = (1 - gap * (count - 1)) / (count + 1)
    domains, top = [], 1.0
    for k in range(count):
        high = unit * (2 if k == 0 else 1)
        domains.append([max(0.0, round(top - high, 4)), round(top, 4)])
        top -= high + gap
    return domains


def _actions(decision: Mapping[str, Any]) -> str:
    return ", ".join(decision.get("actions") or ["warn"])


def _discarded_ranges(run: RunView, steps: _Steps) -> Iterator[tuple[float, float]]:
    """First and last position of each group of steps that was rolled back."""
    for each in run.summary.get("discarded") or []:
        first, last = (steps.at({"stage": each["stage"], "step": each[end]}) for end in ("from_step", "to_step"))
        yield first - 0.5, last + 0.5


def _decision_line(x: float, decision: Mapping[str, Any]) -> Spec:
    shade = SHADES.get(str(decision.get("severity")), "c4")
    edge = {"color": f"@{shade}/0.55", "width": 1}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": edge, "layer": "below"}


def _marks(guarded: GuardedRun, steps: _Steps, top: float) -> list[Spec]:
    """A numbered mark per decision, just above the first panel's highest value, `top`."""
    traces = []
    for severity, shade in SHADES.items():
        numbered = [(i, d) for i, d in enumerate(guarded.decisions, 1) if (d.get("severity") or "warning") == severity]
        if numbered:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers+text",
                    "x": [steps.at(d) for _, d in numbered],
                    "y": [1.08 * top if top > 0 else 0.05] * len(numbered),
                    "text": [f"<b>{i}</b>" for i, _ in numbered],
                    "textposition": "top center",
                    "textfont": {"color": f"@{shade}", "size": 12},
                    "marker": {
                        "symbol": "diamond" if severity == "critical" else "triangle-down",
                        "size": 11,
                        "color": f"@{shade}",
                    },
                    "cliponaxis": False,
                    "name": severity,
                    "customdata": [
                        plot_text(f"step {d.get('step')} of stage {d.get('stage')}: {d.get('rule')}, {_actions(d)}")
                        for _, d in numbered
                    ],
                    "hovertemplate": "%{customdata}<extra>%{fullData.name}</extra>",
                }
            )
    return traces
