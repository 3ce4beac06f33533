"""A summary as the page and the terminal show it: recipes, runs, task orders, accuracy matrices, series over steps.

The summary of a single run is shown as a comparison of one recipe with one run, so all other modules read one shape.
A number that a half-finished run has not measured yet is absent (None), never an error.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from holdfast.measure.chance import are_nearly_all_the_same
from holdfast.measure.metrics import flatten_metrics
from holdfast.reporting.number_format import ShownEstimate, estimate, number

KIND_TITLES = {"task": "Tasks, in stream order", "retention": "Held-out suites", "ood": "Out of distribution"}
"""Headings of the kinds of sets, in the order in which the report shows them."""

KIND_NAMES = {"task": "task", "retention": "held-out suite", "ood": "out of distribution"}
"""What a single set of a kind is called."""

CurvePoints = list[tuple[float, float, float, float]]
"""Rows of (x, mean, smallest, largest) over runs."""

BUDGET_FIELDS = ["optimizer_steps", "prompts", "completions", "generated_tokens", "trained_tokens", "train", "eval"]


@dataclass(frozen=True)
class RunView:
    """One run of a recipe, with its own summary."""

    seed: int
    order_index: int
    summary: Mapping[str, Any]

    @property
    def evaluations(self) -> Sequence[Mapping[str, Any]]:
        return self.summary.get("evaluations") or []

    def score(self, stage: int, name: str) -> Mapping[str, Any] | None:
        """The score block of one set after one stage; None if it was not measured."""
        for evaluation in self.evaluations:
            if evaluation.get("stage") == stage:
                score = (evaluation.get("scores") or {}).get(name)
                return score if isinstance(score, Mapping) else None
        return None


@dataclass(frozen=True)
class RecipeView:
    """One recipe under its label, with all its runs.

    Attributes:
        index: its place in the comparison; it decides on color and marker.
        on_front: whether it is on the Pareto front of final score and forgetting.
    """

    index: int
    label: str
    runs: tuple[RunView, ...]
    metrics: Mapping[str, ShownEstimate]
    budget: Mapping[str, float | None]
    on_front: bool

    @property
    def stopped(self) -> int:
        """Number of runs that the guard ended before their last stage."""
        return sum(run.summary.get("status") == "stopped" for run in self.runs)

    def of_order(self, order_index: int) -> list[RunView]:
        """The recipe's runs over one task order."""
        return [run for run in self.runs if run.order_index == order_index]


@dataclass(frozen=True)
class MatrixCell:
    """One entry A[stage][set] of an accuracy matrix: the mean over runs, and its spread.

    Attributes:
        low, high: smallest and largest of the runs; for a single run, its 95% CI over items.
        own: whether the set is the task of the stage that has just ended.
        same_answer: if nearly all answers of a run are the same, what they say; else empty.
    """

    mean: float
    low: float | None
    high: float | None
    runs: int
    own: bool
    format_ok: float | None
    length: float | None
    truncated: float | None
    same_answer: str


class SummaryView:
    """What the report shows, computed once from a summary.

    Attributes:
        untrained: metrics of the base itself, which stands beside the recipes of a comparison; empty for a run.
        untrained_label: what it is called.
    """

    def __init__(self, summary: Mapping[str, Any]) -> None:
        self.summary = summary
        self.is_run = summary.get("kind") == "run"
        self.name = str(summary.get("name") or "run")
        self.status = str(summary.get("status") or "complete")
        self.verdict = [str(sentence) for sentence in summary.get("verdict") or []]
        self.recipes = [_recipe_of_run(summary)] if self.is_run else _recipes_of_comparison(summary)
        self.orders: list[list[str]] = (
            [list(summary.get("order") or [])] if self.is_run else [list(o) for o in summary.get("orders") or []]
        )
        arm = summary.get("untrained") or {}
        self.untrained: dict[str, ShownEstimate] = {
            name: estimate(value) for name, value in (arm.get("metrics") or {}).items()
        }
        self.untrained_label = str(arm.get("label") or "")
        self.seeds: list[int] = [summary["seed"]] if self.is_run and "seed" in summary else summary.get("seeds") or []

    @property
    def single(self) -> bool:
        """Whether no recipe has more than one complete run, so that there are no intervals over runs."""
        return all(value.n <= 1 for recipe in self.recipes for value in recipe.metrics.values())

    @property
    def runs(self) -> list[RunView]:
        return [run for recipe in self.recipes for run in recipe.runs]

    @cached_property
    def sets(self) -> list[Mapping[str, Any]]:
        """The evaluated sets: tasks, then held-out suites, then out-of-distribution suites."""
        known: Sequence[Mapping[str, Any]] = self.summary.get("sets") or next(
            (run.summary["sets"] for run in self.runs if run.summary.get("sets")), []
        )
        return sorted(known, key=lambda s: list(KIND_TITLES).index(s["kind"]))

    def sets_in_order(self, order_index: int) -> list[tuple[str, list[Mapping[str, Any]]]]:
        """(title, sets) for each kind that has any; tasks are in the order of this stream."""
        order = self.orders[order_index] if order_index < len(self.orders) else []
        groups = []
        for kind, title in KIND_TITLES.items():
            members = [s for s in self.sets if s["kind"] == kind]
            if kind == "task":
                members.sort(key=lambda s: order.index(s["name"]) if s["name"] in order else len(order))
            if members:
                groups.append((title, members))
        return groups

    def stages(self, order_index: int) -> list[int]:
        """The stages that at least one run of this order has evaluated; 0 is before the first stage."""
        runs = [run for run in self.runs if run.order_index == order_index]
        return sorted({int(e["stage"]) for run in runs for e in run.evaluations})

    def stage_name(self, stage: int, order_index: int) -> str:
        """'before', or 'after 2 · tool_calls'."""
        order = self.orders[order_index] if order_index < len(self.orders) else []
        if stage == 0:
            return "before"
        return f"after {stage} · {order[stage - 1]}" if stage <= len(order) else f"after {stage}"

    def cell(self, recipe: RecipeView, order_index: int, stage: int, name: str) -> MatrixCell | None:
        """The accuracy-matrix entry of a recipe; None if no run has measured it, or if nothing judges the set."""
        scores = [s for run in recipe.of_order(order_index) if (s := run.score(stage, name)) is not None]
        means = [m for s in scores if (m := number(s.get("mean"))) is not None]
        if not means:
            return None
        low: float | None = min(means)
        high: float | None = max(means)
        if len(means) == 1:
            ci = scores[0].get("ci95") or [None, None]
            low, high = number(ci[0]), number(ci[1])
        order = self.orders[order_index]
        own = 0 < stage <= len(order) and order[stage - 1] == name

        def mean_of(field: str) -> float | None:
            values = [v for s in scores if (v := number(s.get(field))) is not None]
            return fmean(values) if values else None

        form = {field: mean_of(field) for field in ("format_ok", "length", "truncated")}
        return MatrixCell(fmean(means), low, high, len(means), own, **form, same_answer=_same_answer(scores))

    def is_unjudged(self, recipe: RecipeView, order_index: int, stage: int, name: str) -> bool:
        """Whether a set was evaluated after a stage, and nothing judges it."""
        scores = [s for run in recipe.of_order(order_index) if (s := run.score(stage, name)) is not None]
        return bool(scores) and all(s.get("mean") is None for s in scores)

    @cached_property
    def shared_budget(self) -> dict[str, float]:
        """Budget fields that have the same value for every recipe."""
        return {
            field: values[0]
            for field in BUDGET_FIELDS
            if (values := [v for recipe in self.recipes if (v := recipe.budget.get(field)) is not None])
            and len(values) == len(self.recipes)
            and len(set(values)) == 1
        }

    def boundaries(self, order_index: int) -> list[int]:
        """The global step at which each stage ended; of a running run, the last logged step of its current stage."""
        ends: dict[int, int] = {}
        for run in self.runs:
            if run.order_index == order_index:
                for point in run.summary.get("curves") or []:
                    stage = int(point["stage"])
                    ends[stage] = max(ends.get(stage, 0), int(point["global_step"]))
        return [ends[stage] for stage in sorted(ends)]


def _same_answer(scores: Sequence[Mapping[str, Any]]) -> str:
    """'45 of 45 answers say B', of the first run in which nearly all answers are the same; else empty."""
    for own in scores:
        most = own.get("most_frequent")
        if most is not None and are_nearly_all_the_same(most["count"], own["n"], own.get("mean")):
            return f"{most['count']} of {own['n']} answers say {most['answer']!r}"
    return ""


def over_runs(runs: Sequence[RunView], points: Callable[[RunView], Iterator[tuple[float, Any]]]) -> CurvePoints:
    """Combine a series of several runs into (x, mean, smallest, largest).

    Only an x that all runs with values share is used, so that the mean is over the same runs everywhere. If the runs
    share no x at all (their curves were thinned or stopped differently), every x of any run is used.
    """
    series = []
    for run in runs:
        values = {x: v for x, y in points(run) if (v := number(y)) is not None}
        if values:
            series.append(values)
    if not series:
        return []
    shared = set.intersection(*(set(values) for values in series)) or set.union(*(set(values) for values in series))
    rows = [(x, [values[x] for values in series if x in values]) for x in sorted(shared)]
    return [(x, fmean(ys), min(ys), max(ys)) for x, ys in rows]


def stage_ends(run: RunView) -> dict[int, float]:
    """Stage to the global step at its end; stage 0 (before the first) ends at step 0."""
    ends: dict[int, float] = {0: 0.0}
    for point in run.summary.get("curves") or []:
        stage = int(point["stage"])
        ends[stage] = max(ends.get(stage, 0.0), float(point["global_step"]))
    return ends


def _recipes_of_comparison(summary: Mapping[str, Any]) -> list[RecipeView]:
    by_label = {r["label"]: r for r in summary.get("recipes") or []}
    labels = list(summary.get("labels") or by_label)
    front = set(summary.get("pareto") or [])
    recipes = []
    for index, label in enumerate(labels):
        block = by_label.get(label) or {}
        runs = tuple(
            RunView(int(run.get("seed") or 0), int(run.get("order_index") or 0), run.get("summary") or {})
            for run in summary.get("runs") or []
            if run.get("label") == label
        )
        metrics = {name: estimate(value) for name, value in (block.get("metrics") or {}).items()}
        recipes.append(RecipeView(index, label, runs, metrics, _budget(block.get("budget")), label in front))
    return recipes


def _recipe_of_run(summary: Mapping[str, Any]) -> RecipeView:
    label = str(summary.get("label") or summary.get("name") or "run")
    run = RunView(int(summary.get("seed") or 0), 0, summary)
    measured = summary.get("metrics")
    metrics = {key: estimate(value) for key, value in flatten_metrics(measured).items()} if measured else {}
    return RecipeView(0, label, (run,), metrics, _budget(summary.get("budget")), False)


def _budget(budget: Mapping[str, Any] | None) -> dict[str, float | None]:
    budget = budget or {}
    times = budget.get("seconds") or {}
    times = times if isinstance(times, Mapping) else {}
    return {f: number(times.get(f) if f in ("train", "eval") else budget.get(f)) for f in BUDGET_FIELDS}
