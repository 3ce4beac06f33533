"""What the guard saw and did: a timeline over the reward of each run that it acted in, and every decision as a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.report.numbers import DASH, number, small
from holdfast.report.plot import Figure, Spec, colour, layout, line, plot_text
from holdfast.report.view import Arm, Run, View, stage_ends

FIELDS = {
    "reward": "reward",
    "entropy": "entropy, nats",
    "kl_teacher": "KL to teacher, nats",
    "repetition": "repeated bigrams",
    "truncated_fraction": "cut off",
    "distinct_2": "distinct-2",
    "completion_length": "length, tokens",
    "loss": "loss",
}
"""Fields of a run's curves that a rule may have seen, and their axis titles."""
SHADES = {"warning": "c4", "critical": "bad"}
MOST_PANELS = 3


@dataclass(frozen=True)
class _Watched:
    """A run with what its guard decided."""

    arm: Arm
    run: Run
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


def _watched(view: View, arm: Arm, run: Run) -> _Watched:
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


def _timeline(watched: _Watched, place: int) -> Figure | None:
    """Reward over steps with the decisions on it, below it what the rules saw, and what was undone in grey."""
    curves = watched.run.summary.get("curves") or []
    seen = {key for d in watched.decisions for key in d.get("saw") or {}}
    wanted = ["reward", *(f for f in FIELDS if f != "reward" and any(f in key for key in seen))]
    fields = [f for f in wanted if sum(number(p.get(f)) is not None for p in curves) > 1][:MOST_PANELS]
    if not fields:
        return None
    ends = stage_ends(watched.run)
    shade = colour(watched.arm)
    domains = _domains(len(fields))
    traces: list[Spec] = []
    for k, field in enumerate(fields):
        axis = {"yaxis": f"y{k + 1}" if k else "y"}
        known = [(float(p["global_step"]), x) for p in curves if (x := number(p.get(field))) is not None]
        for old in _undone(watched.run, field, ends):
            traces.append(
                line([x for x, _ in old], [y for _, y in old], "muted/0.55", width=1.4)
                | axis
                | {"name": "rolled back", "hovertemplate": "%{y:.3g}<extra>rolled back</extra>"}
                | {"showlegend": False}
            )
        traces.append(
            line([x for x, _ in known], [y for _, y in known], shade, width=1.8)
            | axis
            | {"name": FIELDS[field], "showlegend": False, "hovertemplate": "%{y:.3g}<extra>%{fullData.name}</extra>"}
        )
        if k == 0:
            traces += _marks(watched, known)
    last = max(ends.values())
    shapes = [_rule_line(_step(d, ends), d) for d in watched.decisions]
    shapes += [
        {
            "type": "rect", "x0": start, "x1": end, "y0": 0, "y1": 1, "yref": "paper",
            "fillcolor": "@muted/0.10", "line": {"width": 0}, "layer": "below",
        }
        for start, end in _stretches(watched.run, ends)
    ]  # fmt: skip
    shapes += [
        {
            "type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper",
            "line": {"color": "@line", "width": 1, "dash": "dot"}, "layer": "below",
        }
        for stage, x in ends.items() if 0 < x < last
    ]  # fmt: skip
    axes: Spec = {}
    for k, field in enumerate(fields):
        shape = layout(xaxis={}, yaxis={"title": {"text": FIELDS[field]}, "nticks": 5, "rangemode": "tozero"}, height=0)
        axes[f"yaxis{k + 1}" if k else "yaxis"] = shape["yaxis"] | {"domain": domains[k], "automargin": True}
    bottom = f"y{len(fields)}" if len(fields) > 1 else "y"
    undone = sum(int(d["to_step"]) - int(d["from_step"]) + 1 for d in watched.run.summary.get("discarded") or [])
    told = "; ".join(
        f"{i}: {d.get('rule')} at step {_step(d, ends):g}, {', '.join(d.get('actions') or ['warn'])}"
        for i, d in enumerate(watched.decisions, 1)
    )
    return Figure(
        id=f"fig-guard-{place}",
        title=f"Decisions over the reward, {watched.name}",
        note="Numbered marks are the decisions listed below: amber warnings, red critical ones. "
        + (f"Grey are {undone} steps that were rolled back; they count in the budget. " if undone else "")
        + ("The lower panels show what the rules looked at." if len(fields) > 1 else ""),
        alt=f"Reward over optimiser steps with {len(watched.decisions)} decisions. {told}.",
        spec={
            "data": traces,
            "layout": layout(
                height=250 + 120 * (len(fields) - 1),
                hovermode="x unified" if len(fields) == 1 else "closest",
                xaxis={"title": {"text": "optimiser step"}, "range": [0, 1.02 * last], "anchor": bottom},
                yaxis={},
                shapes=shapes,
                margin={"l": 48, "r": 12, "t": 28, "b": 44},
            )
            | axes,
        },
        headers=("Decision", "Step", "Rule", "Actions"),
        rows=tuple(
            (str(i), f"{_step(d, ends):g}", str(d.get("rule")), ", ".join(d.get("actions") or ["warn"]))
            for i, d in enumerate(watched.decisions, 1)
        ),
        filters={"run": place},
    )


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


def _step(decision: Mapping[str, Any], ends: Mapping[int, float]) -> float:
    """The global step of a decision; where it is not told, from its stage and step."""
    known = number(decision.get("global_step"))
    if known is not None:
        return known
    return ends.get(int(decision.get("stage") or 1) - 1, 0.0) + float(decision.get("step") or 0)


def _stretches(run: Run, ends: Mapping[int, float]) -> list[tuple[float, float]]:
    """From where to where steps were rolled back, in global steps."""
    found = []
    for each in run.summary.get("discarded") or []:
        start = ends.get(int(each["stage"]) - 1, 0.0)
        found.append((start + float(each["from_step"]) - 0.5, start + float(each["to_step"]) + 0.5))
    return found


def _undone(run: Run, field: str, ends: Mapping[int, float]) -> list[list[tuple[float, float]]]:
    """The rolled-back pieces of a curve."""
    pieces = []
    for each in run.summary.get("discarded") or []:
        start = ends.get(int(each["stage"]) - 1, 0.0)
        piece = [
            (start + float(p["step"]), x) for p in each.get("curve") or [] if (x := number(p.get(field))) is not None
        ]
        pieces += [piece] if piece else []
    return pieces


def _rule_line(x: float, decision: Mapping[str, Any]) -> Spec:
    shade = SHADES.get(str(decision.get("severity")), "c4")
    edge = {"color": f"@{shade}/0.55", "width": 1}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": edge, "layer": "below"}


def _marks(watched: _Watched, known: Sequence[tuple[float, float]]) -> list[Spec]:
    """A numbered mark per decision, at the top of the reward's panel."""
    ends = stage_ends(watched.run)
    top = max([y for _, y in known] + [0.0])
    traces = []
    for severity, shade in SHADES.items():
        own = [(i, d) for i, d in enumerate(watched.decisions, 1) if (d.get("severity") or "warning") == severity]
        if own:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers+text",
                    "x": [_step(d, ends) for _, d in own],
                    "y": [1.08 * top if top > 0 else 0.05] * len(own),
                    "text": [f"<b>{i}</b>" for i, _ in own],
                    "textposition": "top center",
                    "textfont": {"color": f"@{shade}", "size": 12},
                    "marker": {
                        "symbol": "triangle-down" if severity == "warning" else "diamond",
                        "size": 11,
                        "color": f"@{shade}",
                    },
                    "cliponaxis": False,
                    "name": severity,
                    "customdata": [
                        plot_text(f"{d.get('rule')}: {', '.join(d.get('actions') or ['warn'])}") for _, d in own
                    ],
                    "hovertemplate": "step %{x:g}<br>%{customdata}<extra>%{fullData.name}</extra>",
                }
            )
    return traces
