"""Sentences of a verdict about what the guard did."""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.summary.words import SummaryPart, count, join


def _of_guard(run: SummaryPart) -> list[Mapping[str, Any]]:
    """The guard's decisions, without the roll-backs that the recipe itself planned."""
    return [d for d in run["decisions"] if d["rule"] != "near_future"]


def _decisions(runs: Sequence[SummaryPart]) -> tuple[str, bool, int]:
    """The rules that fired in some runs, whether any asked for more than a warning, and the steps they undid."""
    decisions = [d for run in runs for d in _of_guard(run)]
    undone = sum(
        d["to_step"] - d["from_step"] + 1
        for run in runs
        for d in run["discarded"]
        if run["decisions"][d["decision"]]["rule"] != "near_future"
    )
    rules = join(list(dict.fromkeys(d["rule"] for d in decisions)))
    return rules, any(set(d["actions"]) - {"warn"} for d in decisions), undone


def _undid(steps: int) -> str:
    return f"It undid {count(steps, 'optimizer step')}. They count in the budget."


def guard_in_comparison(summary: SummaryPart) -> list[str]:
    """In how many runs of each recipe a guard rule fired, and how many steps it undid."""
    sentences = []
    for label in summary["labels"]:
        runs = [run["summary"] for run in summary["runs"] if run["label"] == label]
        fired = [run for run in runs if _of_guard(run)]
        if not fired:
            continue
        rules, beyond_warning, undone = _decisions(fired)
        did = "intervened" if beyond_warning else "warned"
        sentence = f"The guard {did} in {len(fired)} of {len(runs)} runs of {label}: {rules}."
        sentences.append(f"{sentence} {_undid(undone)}" if undone else sentence)
    return sentences


def guard_in_run(summary: SummaryPart) -> list[str]:
    """What the guard did in one run."""
    decisions = _of_guard(summary)
    if not decisions:
        return [*_unfired(summary), *_planned(summary)]
    rules, beyond_warning, undone = _decisions([summary])
    sentences = [f"The guard {'intervened' if beyond_warning else 'warned'} {count(len(decisions), 'time')}: {rules}."]
    if undone:
        sentences.append(_undid(undone))
    if summary["status"] == "stopped":
        sentences.append("It ended the run.")
    return sentences + _not_measured(summary) + _planned(summary)


def rules_with(summary: SummaryPart, status: str) -> list[str]:
    """The rules of the guard that have a status in a run."""
    return [each["rule"] for each in summary["guard_rules"] if each["status"] == status]


def _unfired(summary: SummaryPart) -> list[str]:
    """That no rule fired: of those that had data."""
    if len(summary["evaluations"]) < 2:
        return []
    if quiet := rules_with(summary, "quiet"):
        return [f"No rule of the guard fired. With data: {join(quiet)}.", *_not_measured(summary)]
    return _not_measured(summary)


def _not_measured(summary: SummaryPart) -> list[str]:
    """The rules that had no data, so that they say nothing."""
    missing = rules_with(summary, "not measured")
    return [f"Not measured by the guard, for lack of data: {join(missing)}."] if missing else []


def _planned(summary: SummaryPart) -> list[str]:
    """Steps that the recipe itself discarded."""
    undone = [
        d["to_step"] - d["from_step"] + 1
        for d in summary["discarded"]
        if summary["decisions"][d["decision"]]["rule"] == "near_future"
    ]
    if not undone:
        return []
    return [
        f"The recipe rolled back {count(len(undone), 'time')}, by {count(sum(undone), 'optimizer step')} in total, "
        "and kept answers of its near future. These steps count in the budget."
    ]
