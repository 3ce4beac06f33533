"""What the guard decided: a timeline per run with decisions, every decision as a row, and the rules in force."""

from collections.abc import Mapping
from typing import Any

from holdfast.reporting.guard_timeline import GuardedRun, guard_timeline
from holdfast.reporting.number_format import DASH, number, small
from holdfast.reporting.view import RecipeView, RunView, SummaryView


def guard_decisions(view: SummaryView) -> dict[str, Any]:
    """The guard section; "measured" is False if no run had a guard."""
    guarded = [_guarded_run(view, recipe, run) for recipe in view.recipes for run in recipe.runs]
    decided = [run for run in guarded if run.decisions]
    guards = [run.summary["guard"] for run in view.runs if isinstance(run.summary.get("guard"), Mapping)]
    rules = list((guards[0].get("rules") or {}).items()) if guards else []
    return {
        "figures": [f for i, run in enumerate(decided) if (f := guard_timeline(run, i)) is not None],
        "rows": [row for i, run in enumerate(decided) for row in _rows(run, i)],
        "runs": [(i, run.name) for i, run in enumerate(decided)],
        "number_of_runs": len(guarded),
        "mode": str(guards[0].get("mode") or "") if guards else "",
        "rules": [(name, *_rule(rule), _status(view, name)) for name, rule in rules],
        "not_measured": _not_measured(view),
        "measured": bool(guards or decided),
    }


def _guarded_run(view: SummaryView, recipe: RecipeView, run: RunView) -> GuardedRun:
    name = recipe.label if view.is_run else f"{recipe.label}, seed {run.seed}"
    if len(view.orders) > 1:
        name += f", order {run.order_index + 1}"
    return GuardedRun(recipe, run, name, run.summary.get("decisions") or [])


def _statuses(view: SummaryView) -> dict[str, list[str]]:
    """By rule, its status in each run for which that is known."""
    found: dict[str, list[str]] = {}
    for run in view.runs:
        for each in run.summary.get("guard_rules") or []:
            found.setdefault(each["rule"], []).append(each["status"])
    return found


def _status(view: SummaryView, name: str) -> str:
    """A rule's status; over several runs, how many have which."""
    statuses = _statuses(view).get(name) or []
    if len(statuses) <= 1:
        return statuses[0] if statuses else DASH
    return ", ".join(f"{status} in {statuses.count(status)} runs" for status in dict.fromkeys(statuses))


def _not_measured(view: SummaryView) -> list[tuple[str, str, int]]:
    """The rules that had no data in some runs: name, what they need, number of runs."""
    needs = {each["rule"]: each["needs"] for run in view.runs for each in run.summary.get("guard_rules") or []}
    counts = {name: statuses.count("not measured") for name, statuses in _statuses(view).items()}
    return [(name, needs[name], missing) for name, missing in counts.items() if missing]


def _rule(rule: Any) -> tuple[str, str]:
    """The actions of a rule, and its thresholds."""
    if not isinstance(rule, Mapping):
        return DASH, str(rule)
    action = rule.get("action") or []
    actions = [action] if isinstance(action, str) else list(action)
    thresholds = [f"{key} {value}" for key, value in rule.items() if key != "action" and value is not None]
    return ", ".join(str(a).replace("_", " ") for a in actions) or "off", "; ".join(thresholds)


def _rows(guarded: GuardedRun, place: int) -> list[dict[str, Any]]:
    rows = []
    for index, decision in enumerate(guarded.decisions, 1):
        saw = decision.get("saw") or {}
        rows.append(
            {
                "run": place,
                "number": index,
                "recipe": guarded.recipe,
                "name": guarded.name,
                "seed": guarded.run.seed,
                "stage": decision.get("stage", DASH),
                "task": decision.get("task") or "",
                "step": decision.get("step", DASH),
                "severity": decision.get("severity") or "warning",
                "rule": str(decision.get("rule") or ""),
                "message": str(decision.get("message") or ""),
                "values": ", ".join(f"{k} {small(v) if number(v) is not None else v}" for k, v in saw.items()),
                "actions": ", ".join(str(a).replace("_", " ") for a in decision.get("actions") or ["warn"]),
                "outcome": str(decision.get("outcome") or ""),
            }
        )
    return rows
