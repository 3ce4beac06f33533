"""What the guard saw and did: a timeline over the reward of each run that it acted in, and every decision as a row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.report.numbers import DASH, number, small
from holdfast.report.plot import Figure, Spec, color, layout, line, plot_text
from holdfast.report.view import ArmView, RunView, View

FIELDS = {
    "reward": "reward",
    "entropy": "entropy, nats",
    "kl_teacher": "KL to teacher, nats",
    "teacher_divergence": "divergence to teacher",
    "kl_to_base": "KL to base, nats",
    "kl_base": "KL to base in the loss, nats",
    "repetition": "share of repeated bigrams",
    "truncated_fraction": "share cut off",
    "distinct_2": "distinct-2",
    "active_rows": "rows with a signal",
    "teacher_share": "share of rows with a teacher",
    "is_ratio_mean": "probability ratio, trainer to sampler",
    "grad_norm": "gradient norm",
    "loss": "loss",
}
"""Fields of a run's curves that a panel may show, and its axis title; `kl_to_base` is that of the probes."""

LOOKS_AT: Mapping[str, tuple[str, ...]] = {
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
"""What each rule of the guard looks at beside the reward; scores of suites have figures of their own."""

SHADES = {"note": "muted", "warning": "c4", "critical": "bad"}

MOST_PANELS = 4


@dataclass(frozen=True)
class _Watched:
    """A run with what its guard decided."""

    arm: ArmView
    run: RunView
    name: str
    decisions: Sequence[Mapping[str, Any]]


def guard_blocks(view: View) -> dict[str, Any]:
    """Timelines of the runs with decisions, all decisions as rows, and the rules that were in force."""
    watched = [_watched(view, arm, run) for arm in view.arms for run in arm.runs]
    acted = [each for each in watched if each.decisions]
    guards = [run.summary["guard"] for run in view.runs if isinstance(run.summary.get("guard"), Mapping)]
    rules = list((guards[0].get("rules") or {}).items()) if guards else []
    return {
        "figures": [f for i, each in enumerate(acted) if (f := _timeline(each, i)) is not None],
        "rows": [row for i, each in enumerate(acted) for row in _rows(each, i)],
        "runs": [(i, each.name) for i, each in enumerate(acted)],
        "watched": len(watched),
        "mode": str(guards[0].get("mode") or "") if guards else "",
        "rules": [(name, *_rule(rule)) for name, rule in rules],
        "measured": bool(guards or acted),
    }


def _watched(view: View, arm: ArmView, run: RunView) -> _Watched:
    name = arm.label if view.is_run else f"{arm.label}, seed {run.seed}"
    if len(view.orders) > 1:
        name += f", order {run.order_index + 1}"
    return _Watched(arm, run, name, run.summary.get("decisions") or [])


def _rule(rule: Any) -> tuple[str, str]:
    """What a rule does when it fires, and its thresholds."""
    if not isinstance(rule, Mapping):
        return DASH, str(rule)
    action = rule.get("action") or []
    actions = [action] if isinstance(action, str) else list(action)
    rest = [f"{key} {value}" for key, value in rule.items() if key != "action" and value is not None]
    return ", ".join(str(a).replace("_", " ") for a in actions) or "left out", "; ".join(rest)


def _rows(watched: _Watched, place: int) -> list[dict[str, Any]]:
    rows = []
    for number_, decision in enumerate(watched.decisions, 1):
        saw = decision.get("saw") or {}
        rows.append(
            {
                "run": place,
                "number": number_,
                "arm": watched.arm,
                "name": watched.name,
                "seed": watched.run.seed,
                "stage": decision.get("stage", DASH),
                "task": decision.get("task") or "",
                "step": decision.get("step", DASH),
                "severity": decision.get("severity") or "warning",
                "rule": str(decision.get("rule") or ""),
                "message": str(decision.get("message") or ""),
                "saw": ", ".join(f"{k} {small(v) if number(v) is not None else v}" for k, v in saw.items()),
                "actions": ", ".join(str(a).replace("_", " ") for a in decision.get("actions") or ["warn"]),
                "outcome": str(decision.get("outcome") or ""),
            }
        )
    return rows


class _Steps:
    """Where the steps of a run stand on its axis: stage after stage, each as long as its furthest step.

    The furthest may have been undone: where a roll-back ends a stage, what it undid thus has room of its own and does
    not lie over the next stage.
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
        """Of a point of a curve, a probe or a decision: whatever has a stage and a step."""
        return float(self.ends.get(int(where.get("stage") or 1) - 1, self.last) + (where.get("step") or 0))

    def has_room_after(self, stage: int) -> bool:
        """Whether undone steps stand between the last kept one of a stage and the next stage."""
        start, end = (self.ends.get(s, self.last) for s in (stage - 1, stage))
        return end - start > self.kept.get(stage, 0)


def _kept(run: RunView, field: str, steps: _Steps) -> list[list[tuple[float, float]]]:
    """A field over the steps that were kept, in pieces: no line leads across what was undone at a stage's end."""
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


def _undone(run: RunView, field: str, steps: _Steps) -> list[list[tuple[float, float]]]:
    """The rolled-back pieces of a curve."""
    pieces = []
    for each in run.summary.get("discarded") or []:
        piece = [
            (steps.at({"stage": each["stage"], "step": p["step"]}), x)
            for p in each.get("curve") or []
            if (x := number(p.get(field))) is not None
        ]
        pieces += [piece] if piece else []
    return pieces


def _shown(watched: _Watched, steps: _Steps) -> list[str]:
    """The fields of the panels: the reward, then what the rules that fired look at first, then what they look at next.

    Where there is none of these, the loss.
    """
    fired = list(dict.fromkeys(LOOKS_AT.get(str(d.get("rule")), ()) for d in watched.decisions))
    turns = range(max(map(len, fired), default=0))
    wanted = dict.fromkeys(["reward", *(fields[turn] for turn in turns for fields in fired if turn < len(fields))])

    def is_known(field: str) -> bool:
        run = watched.run
        return sum(len(piece) for of in (_kept, _undone) for piece in of(run, field, steps)) > 1

    return ([f for f in wanted if is_known(f)] or [f for f in ("loss",) if is_known(f)])[:MOST_PANELS]


def _timeline(watched: _Watched, place: int) -> Figure | None:
    """Reward over steps with the decisions on it, below it what the rules saw, and what was undone in gray."""
    run, steps = watched.run, _Steps(watched.run)
    fields = _shown(watched, steps)
    if not fields:
        return None
    shade = color(watched.arm)
    domains = _domains(len(fields))
    traces: list[Spec] = []
    for k, field in enumerate(fields):
        axis = {"yaxis": f"y{k + 1}" if k else "y", "showlegend": False}
        kept, undone = _kept(run, field, steps), _undone(run, field, steps)
        for old in undone:
            traces.append(
                line([x for x, _ in old], [y for _, y in old], "muted/0.55", width=1.4)
                | axis
                | {"name": "rolled back", "hovertemplate": "%{y:.3g}<extra>rolled back</extra>"}
            )
        for piece in kept:
            traces.append(
                line([x for x, _ in piece], [y for _, y in piece], shade, width=1.8)
                | axis
                | {"name": FIELDS[field], "hovertemplate": "%{y:.3g}<extra>%{fullData.name}</extra>"}
            )
        if k == 0:
            traces += _marks(watched, steps, max([y for piece in (*kept, *undone) for _, y in piece] + [0.0]))
    shapes = [_rule_line(steps.at(d), d) for d in watched.decisions]
    shapes += [
        {
            "type": "rect", "x0": start, "x1": end, "y0": 0, "y1": 1, "yref": "paper",
            "fillcolor": "@muted/0.10", "line": {"width": 0}, "layer": "below",
        }
        for start, end in _stretches(run, steps)
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
        shape = layout(xaxis={}, yaxis={"title": {"text": FIELDS[field]}, "nticks": 5, "rangemode": "tozero"}, height=0)
        axes[f"yaxis{k + 1}" if k else "yaxis"] = shape["yaxis"] | {"domain": domains[k], "automargin": True}
    bottom = f"y{len(fields)}" if len(fields) > 1 else "y"
    rows = tuple(
        (str(i), str(d.get("stage") or DASH), str(d.get("step") or DASH), str(d.get("rule")), _actions(d))
        for i, d in enumerate(watched.decisions, 1)
    )
    told = "; ".join(f"{i}: {rule} at step {step} of stage {stage}, {done}" for i, stage, step, rule, done in rows)
    over = FIELDS[fields[0]].partition(",")[0]
    return Figure(
        id=f"fig-guard-{place}",
        title=f"Decisions over the {over}, {watched.name}",
        note=_note(run, steps, len(fields)),
        alt=f"{over[0].upper()}{over[1:]} over optimizer steps with {len(watched.decisions)} decisions. {told}.",
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
    note = "Numbered marks are the decisions listed below: amber warnings, red critical ones, gray a recipe's own. "
    undone = sum(int(d["to_step"]) - int(d["from_step"]) + 1 for d in run.summary.get("discarded") or [])
    if undone:
        note += f"Grey are {undone} steps that were rolled back; they count in the budget. "
    if any(steps.has_room_after(stage) for stage in steps.ends if 0 < stage < max(steps.ends)):
        note += "What was undone at a stage's end stands before the next stage and pushes it to the right. "
    return note + ("The lower panels show what the rules looked at." if panels > 1 else "")


def _domains(count: int) -> list[list[float]]:
    """Where each panel stands, the reward on top and as high as two others."""
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


def _stretches(run: RunView, steps: _Steps) -> Iterator[tuple[float, float]]:
    """From where to where steps were rolled back."""
    for each in run.summary.get("discarded") or []:
        first, last = (steps.at({"stage": each["stage"], "step": each[end]}) for end in ("from_step", "to_step"))
        yield first - 0.5, last + 0.5


def _rule_line(x: float, decision: Mapping[str, Any]) -> Spec:
    shade = SHADES.get(str(decision.get("severity")), "c4")
    edge = {"color": f"@{shade}/0.55", "width": 1}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": edge, "layer": "below"}


def _marks(watched: _Watched, steps: _Steps, top: float) -> list[Spec]:
    """A numbered mark per decision, at the top of the first panel, whose highest value is `top`."""
    traces = []
    for severity, shade in SHADES.items():
        own = [(i, d) for i, d in enumerate(watched.decisions, 1) if (d.get("severity") or "warning") == severity]
        if own:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers+text",
                    "x": [steps.at(d) for _, d in own],
                    "y": [1.08 * top if top > 0 else 0.05] * len(own),
                    "text": [f"<b>{i}</b>" for i, _ in own],
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
                        for _, d in own
                    ],
                    "hovertemplate": "%{customdata}<extra>%{fullData.name}</extra>",
                }
            )
    return traces
