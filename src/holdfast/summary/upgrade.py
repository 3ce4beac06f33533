"""Summaries of earlier versions, brought up to today's: the one place that knows what has changed.

Version 4 (from 3):

- A set has its chance level, which is 0: earlier versions knew none.
- Metrics of forgetting and retention have today's definitions. They leave out sets that have nothing to lose, and
  `forgetting.from_best` counts a task from its own stage on. All metrics are computed again from the evaluations, and
  so is `forgetting_prediction`.
- `score_changes` is there. Single items were not kept, so its tests are null.
- The most frequent answers are null, and `guard_rules` is empty: neither is known.
- A comparison has `untrained`.
- `verdict` has today's sentences.

Version 3 (from 2):

- The score of a set, its interval, its share of well-formed answers and the reward of a sample may be null: nothing
  judges them. In an upgraded summary they are not. A set without answers and verifier keeps its exact match.
- `nll`, `nll_se` and `sampled` of a score, `nll` of a probe and `nll_changes` are there. They were not measured, so
  they are null or empty.
- `verdict` has today's sentences.

Version 2 (from 1):

- Settings in `recipe` and `guard` have their new names (`holdfast.renamed`), e.g. "topk_renormalized" for
  "topk_renormalised".
- Metrics that were registered since are there. They follow from the evaluations.
- `drift`, `responses`, `artifacts`, `repetition` and `forgetting_prediction` are always there. A curve point has every
  value, and a recipe of a comparison has `stopped`.
- `verdict` has today's sentences. They follow from the numbers.

No other number that a run's summary has is changed. What a comparison concludes from its runs (`paired`, `matched`)
follows today's rules.
"""

from holdfast.config.kept import recipe_with_new_names, with_new_names
from holdfast.guard.settings import GuardSettings
from holdfast.measure.metrics import METRICS, compute_metrics
from holdfast.measure.scores import Json
from holdfast.summary.comparison import build_comparison_summary
from holdfast.summary.curves import CURVE_VALUES
from holdfast.summary.inputs import ComparisonDescription
from holdfast.summary.run import predicted_forgetting
from holdfast.summary.run_verdict import run_verdict
from holdfast.summary.score_changes import score_changes
from holdfast.summary.version import SCHEMA_VERSION


def upgrade(summary: Json) -> Json:
    """A summary of any version up to today's, as today's version. One that is already up to date comes back as it is.

    The caller checks that `schema_version` is known; see `holdfast.summary.read`.
    """
    if summary["kind"] == "run":
        return _upgrade_run(summary)
    if not isinstance(summary["runs"], list):
        raise TypeError("runs: not a list")
    runs = [{**run, "summary": _upgrade_run(run["summary"])} for run in summary["runs"]]
    unchanged = all(new["summary"] is old["summary"] for new, old in zip(runs, summary["runs"], strict=True))
    if unchanged and summary["schema_version"] == SCHEMA_VERSION and _has_all_metrics(summary):
        return summary
    # All numbers of a comparison follow from its runs.
    return build_comparison_summary(
        ComparisonDescription(
            name=summary["name"],
            holdfast_version=summary["holdfast_version"],
            created=summary["created"],
            status=summary["status"],
            labels=summary["labels"],
            seeds=summary["seeds"],
            orders=summary["orders"],
        ),
        runs,
    )


def _has_all_metrics(comparison: Json) -> bool:
    arms = [*comparison["recipes"], comparison["untrained"]]
    return all(arm["metrics"].keys() == METRICS.keys() for arm in arms)


def _upgrade_run(run: Json) -> Json:
    if run["schema_version"] == SCHEMA_VERSION:
        return _with_all_metrics(run)
    for version, newer in ((1, _run_from_1), (2, _run_from_2), (3, _run_from_3)):
        if run["schema_version"] == version:
            run = newer(run)
    return run | {"verdict": run_verdict(run)}


def _run_from_3(run: Json) -> Json:
    """A run's summary of version 3 as version 4."""
    evaluations = [
        {**e, "scores": {name: {"most_frequent": None} | score for name, score in e["scores"].items()}}
        for e in run["evaluations"]
    ]
    sets, order = [{"chance": 0.0} | each for each in run["sets"]], run["order"]
    where = {"label": run["label"], "seed": run["seed"]}
    return run | {
        "schema_version": 4,
        "sets": sets,
        "evaluations": evaluations,
        "metrics": None if run["metrics"] is None else compute_metrics(evaluations, order, sets),
        "forgetting_prediction": predicted_forgetting(evaluations, order, sets, **where),
        "score_changes": score_changes(evaluations, order, sets, [{} for _ in evaluations]),
        "guard_rules": [],
    }


def _run_from_2(run: Json) -> Json:
    """A run's summary of version 2 as version 3."""
    unmeasured = dict.fromkeys(("nll", "nll_se", "sampled"))
    return run | {
        "schema_version": 3,
        "evaluations": [
            {**e, "scores": {name: unmeasured | score for name, score in e["scores"].items()}}
            for e in run["evaluations"]
        ],
        "probes": [{"nll": {}} | probe for probe in run["probes"]],
        "nll_changes": [],
    }


def _run_from_1(run: Json) -> Json:
    """A run's summary of version 1 as version 2."""
    empty: Json = {"drift": [], "responses": [], "artifacts": [], "repetition": []}
    run = empty | run
    return run | {
        "schema_version": 2,
        "recipe": recipe_with_new_names(run["recipe"]),
        "guard": with_new_names(run["guard"], GuardSettings),
        "curves": [_with_all_values(point) for point in run["curves"]],
        "discarded": [
            {**each, "curve": [_with_all_values(point) for point in each["curve"]]} for each in run["discarded"]
        ],
    }


def _with_all_values(point: Json) -> Json:
    return dict.fromkeys(CURVE_VALUES) | point


def _with_all_metrics(run: Json) -> Json:
    """The summary with metrics that were registered after it was written. They follow from its evaluations."""
    missing = run["metrics"] is not None and any(metric.is_missing(run["metrics"]) for metric in METRICS.values())
    if not missing:
        return run
    return run | {"metrics": compute_metrics(run["evaluations"], run["order"], run["sets"])}
