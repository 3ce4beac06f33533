"""From the runs of a form to numbers: what each arm learned, and what it lost.

Items are paired: the base and every arm answer the same ones. An item's value is its mean over seeds. The items of one
land count as one, because they ask for the same fact. So an interval here is about the choice of items and lands. How
much seeds differ stands beside it.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from benchmarks.real.arms import Form
from benchmarks.real.cells import Cell, plan, untrained_directory
from benchmarks.real.data import SUITES, TASKS
from holdfast.measure.paired_items import compare_paired
from holdfast.measure.statistics import holm, mean_interval
from holdfast.store.files import read_json
from holdfast.summary.read import read_summary

Json = dict[str, Any]
Evaluations = Sequence[Mapping[str, Any]]
"""Of one run: before the first stage, and after each stage."""

LEVEL = 0.05


def collect(form: Form, into: Path) -> list[tuple[Cell, Evaluations, Mapping[str, Any]]]:
    """Every run of a form, with its evaluations and its summary."""
    found: list[tuple[Cell, Evaluations, Mapping[str, Any]]] = []
    for cell in plan(form):
        directory = cell.directory(into)
        evaluations = [read_json(directory.evaluation(stage)) for stage in range(form.stages + 1)]
        found.append((cell, evaluations, read_summary(directory.summary)))
    return found


def item_units(form: Form, into: Path) -> dict[str, list[str]]:
    """For every set, what each of its items is about: its land, or itself."""
    names = {**{task.name: f"{task.name}-test" for task in TASKS[: form.stages]}, **{name: name for name in SUITES}}
    units = {}
    for name, file in names.items():
        lines = (form.data_folder(into) / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()[: form.max_items]
        ids = [json.loads(line)["id"] for line in lines]
        units[name] = [each.rpartition("/")[0] if name in form_tasks(form) else each for each in ids]
    return units


def form_tasks(form: Form) -> list[str]:
    return [task.name for task in TASKS[: form.stages]]


def unit_means(values: Sequence[Sequence[float]], units: Sequence[str]) -> list[float]:
    """The mean of each unit over its items and over seeds, in the order of the units' first items.

    Args:
        values: one score per item, for each seed.
        units: what each item is about.
    """
    by_unit: dict[str, list[float]] = {}
    for scores in values:
        for unit, score in zip(units, scores, strict=True):
            by_unit.setdefault(unit, []).append(score)
    return [sum(scores) / len(scores) for scores in by_unit.values()]


def change(
    before: Sequence[Sequence[float]], after: Sequence[Sequence[float]], units: Sequence[str]
) -> dict[str, float | list[float]]:
    """The change of a score, paired by unit: difference, 95% interval over units, p, and the difference of each seed.

    Args:
        before, after: one score per item, for each seed.
    """
    paired = compare_paired(unit_means(after, units), unit_means(before, units))
    by_seed = [mean(a) - mean(b) for a, b in zip(after, before, strict=True)]
    return {"difference": paired.difference, "ci95": list(paired.ci95), "p": paired.p, "by_seed": by_seed}


def transitions(before: Sequence[float], after: Sequence[float]) -> dict[str, int]:
    """How many items were kept, lost, gained, and never right."""
    names = {(1, 1): "kept", (1, 0): "lost", (0, 1): "gained", (0, 0): "never"}
    counts = dict.fromkeys(names.values(), 0)
    for pair in zip(before, after, strict=True):
        counts[names[int(pair[0] >= 1), int(pair[1] >= 1)]] += 1
    return counts


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def nats(runs: Sequence[Evaluations], name: str, kind: Literal["nll", "forced"], units: Sequence[str]) -> Json | None:
    """A set's NLL before and at the end, and its change, paired by unit; None if it was not measured.

    Args:
        kind: of the whole demonstration, in nats per token, or of the target after its forced beginning, in nats.
    """

    def values(stage: int) -> list[list[float]] | None:
        every = [(evaluations[stage].get(kind) or {}).get(name) or [None] for evaluations in runs]
        if any(item is None for items in every for item in items):
            return None
        return [[item["nll"] * (item["tokens"] if kind == "forced" else 1) for item in items] for items in every]

    before, end = values(0), values(len(runs[0]) - 1)
    if before is None or end is None:
        return None
    sides = [unit_means(side, units) for side in (before, end)]
    estimate = mean_interval([after - first for first, after in zip(*sides, strict=True)])
    change = {"difference": estimate.mean, "ci95": estimate.ci95 and list(estimate.ci95)}
    return {"before": mean(sides[0]), "end": mean(sides[1]), "change": change}


def set_result(name: str, runs: Sequence[Evaluations], units: Sequence[str], own_stage: int | None) -> Json:
    """One set under one arm.

    Args:
        runs: of each seed.
        own_stage: of a task, the stage that teaches it; None for a suite.
    """

    def scores(stage: int) -> list[list[float]]:
        return [evaluations[stage]["items"][name] for evaluations in runs]

    last = len(runs[0]) - 1
    result: Json = {
        "items": len(units),
        "units": len(set(units)),
        "before": mean([mean(s) for s in scores(0)]),
        "end": mean([mean(s) for s in scores(last)]),
        "change": change(scores(0), scores(last), units),
        "transitions": [transitions(b, a) for b, a in zip(scores(0), scores(last), strict=True)],
        "length": [mean([run[stage]["sets"][name]["length"] for run in runs]) for stage in (0, last)],
        "nll": nats(runs, name, "nll", units),
        "forced_nll": nats(runs, name, "forced", units),
    }
    if own_stage is not None:
        result["learned"] = mean([mean(s) for s in scores(own_stage)])
        result["lost_again"] = change(scores(own_stage), scores(last), units)
        result["kl_to_base"] = mean([run[last]["sets"][name]["kl_to_base"] for run in runs])
    return result


def pooled(runs: Sequence[Evaluations], stage: int) -> list[list[float]]:
    """Scores of all items of all suites, for each seed."""
    return [[score for name in SUITES for score in evaluations[stage]["items"][name]] for evaluations in runs]


def results(form: Form, into: Path) -> Json:
    """All numbers of a form."""
    units = item_units(form, into)
    suite_units = [unit for name in SUITES for unit in units[name]]
    tasks = form_tasks(form)
    by_label: dict[str, list[tuple[Cell, Evaluations, Mapping[str, Any]]]] = {}
    for run in collect(form, into):
        by_label.setdefault(run[0].label, []).append(run)
    order = [label for arm in form.arms for label in by_label if by_label[label][0][0].arm.label == arm]
    arms = []
    for label in order:
        cell, runs = by_label[label][0][0], [evaluations for _, evaluations, _ in by_label[label]]
        budgets = [summary["budget"] for *_, summary in by_label[label]]
        sets = {
            name: set_result(name, runs, own, tasks.index(name) + 1 if name in tasks else None)
            for name, own in units.items()
        }
        arms.append(
            {
                "label": label,
                "arm": cell.arm.label,
                "voice": cell.arm.voice,
                "recipe": dict(cell.arm.recipe),
                "learning_rate": cell.rate,
                "learned": mean([sets[name]["learned"] for name in tasks]),
                "at_the_end": mean([sets[name]["end"] for name in tasks]),
                "suites": change(pooled(runs, 0), pooled(runs, form.stages), suite_units),
                "sets": sets,
                "seconds": {key: mean([budget["seconds"][key] for budget in budgets]) for key in ("train", "eval")},
                "generated_tokens": mean([budget["generated_tokens"] for budget in budgets]),
                "trained_tokens": mean([budget["trained_tokens"] for budget in budgets]),
            }
        )
    runs_of = {label: [evaluations for _, evaluations, _ in by_label[label]] for label in order}
    return {
        "form": form.name,
        "seeds": list(form.seeds),
        "steps": form.steps,
        "tasks": tasks,
        "untrained": untrained(form, into),
        "arms": arms,
        "pairs": pairs(runs_of, form.stages, suite_units),
    }


def untrained(form: Form, into: Path) -> dict[str, float]:
    """The base's score of every set."""
    sets = read_json(untrained_directory(form, into).evaluation(0))["sets"]
    return {name: values["mean"] for name, values in sets.items()}


def pairs(runs: Mapping[str, Sequence[Evaluations]], stage: int, units: Sequence[str]) -> list[Json]:
    """All suites together after the last stage, for every two arms, by Holm's correction over the pairs.

    Arms differ if the corrected p is below .05 and every seed has the same sign.
    """
    found: list[Json] = []
    for a, b in combinations(runs, 2):
        sides = pooled(runs[b], stage), pooled(runs[a], stage)
        found.append({"a": a, "b": b, **change(*sides, units)})
    for pair, p in zip(found, holm([pair["p"] for pair in found]), strict=True):
        pair["p_holm"] = p
        signs = {(value > 0) - (value < 0) for value in pair["by_seed"]}
        pair["differs"] = p is not None and p < LEVEL and len(signs) == 1
    return found
