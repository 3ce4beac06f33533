"""`holdfast.summary.run` and `holdfast.summary.comparison`: the numbers follow from the inputs and fit the schema."""

import copy
import json
import subprocess
import sys
from itertools import pairwise
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress, spearmanr, t

from holdfast.measure.metrics import METRICS
from holdfast.measure.statistics import mean_interval
from holdfast.recipes import RECIPES
from holdfast.store.files import json_safe
from holdfast.summary.comparison import pareto_front
from holdfast.summary.curves import MAX_CURVE_POINTS
from holdfast.summary.models.run import Wiring
from holdfast.summary.schema import summary_schema
from summary_factory import FAILING, SUITES, TASKS, make_comparison, make_run, run_inputs, summary_of

SCHEMA = jsonschema.Draft202012Validator(summary_schema())


@pytest.fixture(scope="module")
def run() -> dict[str, Any]:
    return make_run("sdft", n=100)


@pytest.fixture(scope="module")
def comparison() -> dict[str, Any]:
    return make_comparison(seeds=(0, 1), orders=(TASKS, TASKS[::-1]), n=60, steps=4, probe_steps=2, samples=1)


def test_the_schema_is_one_and_describes_every_field() -> None:
    jsonschema.Draft202012Validator.check_schema(summary_schema())

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict):
            for name, field in node.get("properties", {}).items() if isinstance(node.get("properties"), dict) else ():
                if path != "#/if":
                    assert field.get("description"), f"{path}/{name} has no description"
            for key, value in node.items():
                walk(value, f"{path}/{key}")
        elif isinstance(node, list):
            for value in node:
                walk(value, path)

    walk(summary_schema(), "#")
    assert list(summary_schema()["$defs"]["PairedDifference"]["properties"]["metric"]["enum"]) == list(METRICS)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"order": TASKS[:1], "suites": ()},
        {"stages": 0},
        {"stages": 2, "probe_steps": 0},
        {"profile": FAILING, "samples": 0},
    ],
)
def test_every_shape_of_run_fits_the_schema(settings: dict[str, Any]) -> None:
    SCHEMA.validate(json.loads(json.dumps(make_run("grpo", n=40, **settings), allow_nan=False)))


@pytest.mark.parametrize(
    "settings",
    [
        {"seeds": (0,)},
        {"orders": (TASKS[:1],), "suites": ()},
        {"recipes": ("sft",)},
        {"seeds": (0,), "probe_steps": 0},
        {"seeds": (0, 1), "missing": [("sft", 0, 0), ("sft", 1, 0)]},
        {"seeds": (0,), "stages": 1},
        {"seeds": (0, 1), "stopped": [("sft", 1, 0), ("grpo", 0, 0)]},
    ],
)
def test_every_shape_of_comparison_fits_the_schema(settings: dict[str, Any]) -> None:
    SCHEMA.validate(
        json.loads(
            json.dumps(
                make_comparison(**{"n": 30, "steps": 4, "probe_steps": 2, "samples": 1, **settings}), allow_nan=False
            )
        )
    )


@pytest.mark.parametrize(
    ("breakage", "where"),
    [
        (lambda s: s.pop("metrics"), "$"),
        (lambda s: s.update(extra=1), "$"),
        (lambda s: s.update(schema_version=1), "$.schema_version"),
        (lambda s: s.update(status="done"), "$.status"),
        (lambda s: s["evaluations"][0]["scores"]["facts"].update(mean=1.5), "$.evaluations[0].scores.facts.mean"),
        (lambda s: s["evaluations"][0]["scores"]["facts"].update(ci95=[0.1]), "$.evaluations[0].scores.facts.ci95"),
        (lambda s: s["metrics"]["forgetting"].pop("from_best"), "$.metrics"),
        (lambda s: s["recipe"].pop("name"), "$.recipe"),
        (lambda s: s["verdict"].clear(), "$.verdict"),
    ],
)
def test_a_broken_run_fails_at_the_place(run: dict[str, Any], breakage: Any, where: str) -> None:
    broken = copy.deepcopy(run)
    breakage(broken)
    assert where in {error.json_path for error in SCHEMA.iter_errors(broken)}


def test_a_broken_run_within_a_comparison_fails(comparison: dict[str, Any]) -> None:
    SCHEMA.validate(comparison)
    broken = copy.deepcopy(comparison)
    broken["runs"][3]["summary"]["seed"] = "three"
    assert [e.json_path for e in SCHEMA.iter_errors(broken)] == ["$.runs[3].summary.seed"]


def test_budget_adds_up_the_steps(run: dict[str, Any]) -> None:
    assert run["budget"] == {
        "optimizer_steps": 160,
        "prompts": 160 * 16,
        "completions": 160 * 16,
        "generated_tokens": 160 * 16 * 30,
        "trained_tokens": 160 * 15 * 30,
        "seconds": {"train": pytest.approx(64.0), "eval": 15.0},
    }


def test_curves_are_thinned_without_losing_a_spike_or_the_end() -> None:
    inputs = run_inputs("sft", n=20, steps=700)
    inputs["metrics"][1234]["loss"] = 1e6
    inputs["metrics"][5]["reward"] = None
    inputs["metrics"][8]["loss"] = float("nan")
    curves = summary_of(**inputs)["curves"]
    assert len(curves) <= MAX_CURVE_POINTS
    assert max(point["loss"] for point in curves) > 1e4
    assert (curves[-1]["stage"], curves[-1]["step"], curves[-1]["global_step"]) == (4, 700, 2800)
    assert all(x["global_step"] < y["global_step"] for x, y in pairwise(curves))


def test_few_steps_are_kept_as_they_are() -> None:
    inputs = run_inputs("sft", n=20)
    curves = summary_of(**inputs)["curves"]
    assert [c["loss"] for c in curves] == [m["loss"] for m in inputs["metrics"]]


def test_a_probed_stage_is_closed_by_its_ends_on_the_probes_items() -> None:
    inputs = run_inputs("sft", n=300, probe_steps=10)
    probes = [p for p in summary_of(**inputs)["probes"] if p["stage"] == 2]
    assert [p["step"] for p in probes] == [0, 10, 20, 30, 40]
    assert [p["global_step"] for p in probes] == [40, 50, 60, 70, 80]
    assert all(set(p["scores"]) == {*TASKS[:2], *SUITES} for p in probes)
    end = inputs["evaluations"][2]
    assert probes[-1]["scores"]["facts"] == pytest.approx(np.mean(end["items"]["facts"][:128]))
    assert probes[-1]["kl_to_base"] == pytest.approx(np.mean([end["sets"][t]["kl_to_base"] for t in TASKS]))
    del end["items"]
    whole = [p for p in summary_of(**inputs)["probes"] if p["stage"] == 2][-1]
    assert whole["scores"]["facts"] == pytest.approx(end["sets"]["facts"]["mean"])


def test_samples_follow_an_item_through_the_stages(run: dict[str, Any]) -> None:
    sample = next(s for s in run["samples"] if s["id"] == "tools-1")
    assert (sample["set"], sample["kind"], sample["system"]) == ("tools", "task", "Answer in one line.")
    assert [c["stage"] for c in sample["completions"]] == [0, 1, 2, 3, 4]
    assert [s["set"] for s in run["samples"][::2]] == [s["name"] for s in run["sets"]]


def test_comparison_numbers_follow_from_its_runs(comparison: dict[str, Any]) -> None:
    for recipe in comparison["recipes"]:
        runs = [r["summary"] for r in comparison["runs"] if r["label"] == recipe["label"]]
        assert recipe["runs"] == len(runs) == 4
        expected = json_safe(mean_interval([r["metrics"]["loss_of_earlier"]["mean"] for r in runs]).as_json())
        assert recipe["metrics"]["loss_of_earlier"] == expected
    by_key = {(r["label"], r["seed"], r["order_index"]): r["summary"]["metrics"] for r in comparison["runs"]}
    entry = next(p for p in comparison["paired"] if (p["a"], p["b"], p["metric"]) == ("sft", "grpo", "learned_score"))
    cells = [(seed, i) for seed in (0, 1) for i in (0, 1)]
    gaps = [by_key["sft", *c]["learned_score"]["mean"] - by_key["grpo", *c]["learned_score"]["mean"] for c in cells]
    assert entry["difference"] == pytest.approx(np.mean(gaps))
    assert entry["n"] == 4
    assert len(comparison["paired"]) == 6 * len(METRICS)
    assert [(m["a"], m["b"]) for m in comparison["matched"]][:2] == [("sft", "sdft"), ("sft", "sdpo")]


def test_only_complete_and_paired_runs_enter_a_comparison() -> None:
    summary = make_comparison(("sft", "sdft"), missing=[("sft", 1, 0)], n=30, demonstrations=True, pass_at_k=True)
    assert [r["runs"] for r in summary["recipes"]] == [2, 3]
    assert {p["n"] for p in summary["paired"]} == {2}
    assert summary["matched"][0]["n"] == 2
    started = make_comparison(("sft", "sdft"), stages=2, n=30)
    assert {m["n"] for r in started["recipes"] for m in r["metrics"].values()} == {0}
    assert len(started["runs"]) == 6


def test_pareto_front_keeps_ties_and_drops_the_beaten() -> None:
    points = {"a": (0.9, 0.3), "b": (0.8, 0.1), "c": (0.8, 0.1), "d": (0.8, 0.2), "e": (0.9, 0.3), "f": (0.7, 0.1)}
    assert pareto_front(points) == ["a", "b", "c", "e"]
    assert pareto_front({}) == []


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=3), st.tuples(st.floats(0, 1), st.floats(-1, 1)), min_size=1, max_size=8
    )
)
def test_a_point_off_the_front_is_beaten_by_one_on_it(points: dict[str, tuple[float, float]]) -> None:
    front = pareto_front(points)
    assert front
    for label, (x, y) in points.items():
        beaten = any(points[f][0] >= x and points[f][1] <= y and points[f] != (x, y) for f in front)
        assert beaten == (label not in front)


def test_json_safe() -> None:
    odd = {1: np.float32("nan"), "x": (np.int64(3), float("inf"), np.array([1.5])), "y": None, "z": True}
    assert json_safe(odd) == {"1": None, "x": [3, None, [1.5]], "y": None, "z": True}


def test_measuring_needs_no_torch() -> None:
    code = "import sys, holdfast.measure, holdfast.summary.schema; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_forgetting_is_predicted_from_the_ends_of_runs(comparison: dict[str, Any], run: dict[str, Any]) -> None:
    found = comparison["forgetting_prediction"]
    assert len(found["points"]) == 4 * 4 * 4  # recipes, runs of each, stages
    for point in found["points"]:
        (summary,) = (
            r["summary"]
            for r in comparison["runs"]
            if all(r[key] == point[key] for key in ("label", "seed", "order_index"))
        )
        now, before = (summary["evaluations"][s]["scores"] for s in (point["stage"], 0))
        learned = {task: summary["evaluations"][s]["scores"] for s, task in enumerate(summary["order"], 1)}
        lost = [learned[t][t]["mean"] - now[t]["mean"] for t in summary["order"][: point["stage"] - 1]]
        lost += [before[s]["mean"] - now[s]["mean"] for s in SUITES]
        assert point["forgetting"] == pytest.approx(np.mean(lost))
        seen = summary["order"][: point["stage"]]
        assert point["kl"] == pytest.approx(np.mean([now[t]["kl_to_base"] for t in seen]))
    ends = [(p["kl"], p["forgetting"]) for p in found["points"] if p["stage"] == 4]
    line = linregress(*zip(*ends))
    half = t.ppf(0.975, len(ends) - 2) * line.stderr
    fit = found["fit"]
    assert fit["n"] == 16
    assert fit["slope"] == pytest.approx(line.slope)
    assert fit["slope_ci95"] == pytest.approx([line.slope - half, line.slope + half])
    assert (fit["r2"], fit["spearman"]) == pytest.approx((line.rvalue**2, spearmanr(*zip(*ends)).statistic))
    assert "Runs that moved further from the base on the tasks' prompts forgot more" in " ".join(comparison["verdict"])
    assert run["forgetting_prediction"]["fit"] is None
    assert [p["stage"] for p in run["forgetting_prediction"]["points"]] == [1, 2, 3, 4]


def test_a_fit_needs_three_runs_and_claims_only_what_they_show() -> None:
    two = make_comparison(("sft", "grpo"), seeds=(0,), n=30)
    assert two["forgetting_prediction"]["fit"] is None
    few = make_comparison(("sft", "sdft", "sdpo"), seeds=(0,), n=30)
    (sentence,) = [s for s in few["verdict"] if "on the tasks' prompts" in s]
    low, high = few["forgetting_prediction"]["fit"]["slope_ci95"]
    assert ("Inconclusive" in sentence) == (low <= 0 <= high)
    assert "3 runs of all recipes together" in sentence
    unmeasured = make_run("sft", n=30, measures=False)
    assert (unmeasured["drift"], unmeasured["responses"], unmeasured["artifacts"]) == ([], [], [])


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_the_wiring_of_every_recipe_has_its_place(recipe: str) -> None:
    wiring = RECIPES[recipe]().wiring()
    assert Wiring.model_validate(wiring).model_dump(exclude_defaults=True) == wiring
