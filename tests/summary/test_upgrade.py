"""`holdfast.summary.upgrade` and `holdfast.summary.read`: summaries of earlier versions are read as today's.

The files in fixtures/version-1/summaries were written by the last version whose summaries were of version 1: a complete
run, one that was interrupted in its first stage, and a comparison of two recipes over two seeds. Those in
fixtures/version-2/summaries were written by the last of version 2. One of their tasks has only demonstrations, and was
scored by exact match with them. Those in fixtures/version-3/summaries were written by the last of version 3.
"""

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from holdfast.api import report
from holdfast.cli.summary_text import summary_as_text
from holdfast.config.kept import recipe_with_new_names
from holdfast.errors import RunError
from holdfast.measure.metrics import METRICS
from holdfast.stream.compare import resume_comparison
from holdfast.summary.read import check_summary, read_summary
from holdfast.summary.run_verdict import run_verdict
from holdfast.summary.schema import summary_schema
from holdfast.summary.score_changes import UNTESTED
from holdfast.summary.upgrade import upgrade
from summary_factory import make_comparison, make_run

SCHEMA = jsonschema.Draft202012Validator(summary_schema())
FIXTURES = Path(__file__).parent.parent / "fixtures"
NAMES = ("run", "interrupted", "comparison")
WRITTEN = [*((1, name) for name in NAMES), *((v, name) for v in (2, 3) for name in ("run", "comparison"))]

DEFINED_ANEW = ("forgetting", "loss_of_earlier", "retention", "forgetting_prediction", "pareto")
"""What version 4 defines otherwise: sets with nothing to lose do not count, and the best score is since learning."""


def written(name: str, version: int = 1) -> dict[str, Any]:
    path = FIXTURES / f"version-{version}" / "summaries" / f"{name}.json.gz"
    summary: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    assert summary["schema_version"] == version
    return summary


def kept(folder: Path, summary: dict[str, Any]) -> Path:
    """The summary in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder / "summary.json"


def as_version_3(summary: dict[str, Any]) -> dict[str, Any]:
    """A run's summary as version 3 was: without what version 4 added."""
    old = copy.deepcopy(summary)
    old["schema_version"] = 3
    del old["score_changes"], old["guard_rules"]
    for each in old["sets"]:
        del each["chance"]
    for evaluation in old["evaluations"]:
        for score in evaluation["scores"].values():
            del score["most_frequent"]
    return old


def as_version_2(summary: dict[str, Any]) -> dict[str, Any]:
    """A run's summary as version 2 was: without what version 3 added."""
    old = as_version_3(summary)
    old["schema_version"] = 2
    del old["nll_changes"]
    for evaluation in old["evaluations"]:
        for score in evaluation["scores"].values():
            del score["nll"], score["nll_se"], score["sampled"]
    for probe in old["probes"]:
        del probe["nll"]
    for metric in ("nll", "pass_at_k", "avg_at_k"):
        del old["metrics"][metric]
    return old


def as_version_1(summary: dict[str, Any]) -> dict[str, Any]:
    """A run's summary as the first of version 1 were: without what was added while the version stayed the same."""
    old = as_version_2(summary)
    old["schema_version"] = 1
    for key in ("drift", "responses", "artifacts", "repetition", "forgetting_prediction"):
        del old[key]
    for point in old["curves"]:
        for key in ("entropy", "kl_teacher", "teacher_divergence", "kl_base", "distinct_2"):
            del point[key]
    del old["metrics"]["ood"]["final"]
    return old


def assert_same_numbers(old: Any, new: Any, path: str = "") -> None:
    """Whatever the old summary has, the new one has too, except for its version and its sentences, and for what is
    concluded from the runs of a comparison: by today's rules."""
    if path.endswith((".schema_version", ".verdict", ".matched")):
        return
    if path.rpartition(".")[2].startswith(DEFINED_ANEW):
        return
    if path.endswith(".paired"):
        by_place = {(entry["a"], entry["b"], entry["metric"]): entry for entry in new}
        for entry in old:
            if entry["metric"].startswith(DEFINED_ANEW):
                continue
            today = by_place[entry["a"], entry["b"], entry["metric"]]
            assert {k: today[k] for k in ("difference", "n")} == {k: entry[k] for k in ("difference", "n")}
    elif path.endswith((".recipe", ".guard")):
        # settings, under today's names
        assert (recipe_with_new_names(old) if path.endswith(".recipe") else old) == new
    elif isinstance(old, dict):
        assert old.keys() <= new.keys(), path
        for key, value in old.items():
            assert_same_numbers(value, new[key], f"{path}.{key}")
    elif isinstance(old, list):
        assert len(old) == len(new), path
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            assert_same_numbers(one, other, f"{path}[{index}]")
    else:
        assert old == new, path


@pytest.mark.parametrize(("version", "name"), WRITTEN)
def test_earlier_versions_are_read_as_version_4_with_the_same_numbers(version: int, name: str, tmp_path: Path) -> None:
    old = written(name, version)
    path = kept(tmp_path, old)
    before = path.read_bytes()
    new = read_summary(path)
    assert path.read_bytes() == before
    assert new["schema_version"] == 4
    SCHEMA.validate(new)
    assert_same_numbers(old, new)


def test_version_4_computes_forgetting_anew() -> None:
    """On these old summaries a task that was never learned, or a suite at 0, once stood in the mean."""
    old = as_version_3(make_run("sft", n=40))
    for evaluation in old["evaluations"]:
        evaluation["scores"]["format"] |= {"mean": 0.0, "ci95": [0.0, 0.1]}
    old["metrics"]["loss_of_earlier"]["per_set"]["format"] = 0.0
    new = upgrade(old)
    assert "format" not in new["metrics"]["loss_of_earlier"]["per_set"]
    assert "format" not in new["metrics"]["retention"]["per_suite"]
    assert any(sentence.startswith("Nothing to lose") and "format (0.0" in sentence for sentence in new["verdict"])


def test_what_single_items_would_show_is_not_made_up() -> None:
    new = upgrade(as_version_3(make_run("sft", n=40)))
    assert {entry["outcome"] for entry in new["score_changes"]} == {"not tested"}
    assert all(entry["lost"] is None and entry["p"] is None for entry in new["score_changes"])
    assert any(sentence.startswith("Not tested, because") for sentence in new["verdict"])
    assert not any(sentence.startswith(("Fell", "No earlier task")) for sentence in new["verdict"])


@pytest.mark.parametrize(("version", "name"), WRITTEN)
def test_earlier_versions_are_reported_and_printed(version: int, name: str, tmp_path: Path) -> None:
    old = written(name, version)
    page = report(kept(tmp_path, old).parent)
    assert old["name"] in page.read_text()
    text = summary_as_text(read_summary(tmp_path / "summary.json"))
    assert all(label in text for label in old.get("labels", []))


def test_a_comparison_of_version_1_is_resumed(tmp_path: Path) -> None:
    """Its complete runs are not run again, and their summaries enter the new one."""
    old = written("comparison")
    for run in old["runs"]:
        kept(tmp_path / run["path"], run["summary"])
        (tmp_path / run["path"] / "evals").mkdir()
        (tmp_path / run["path"] / "evals" / "stage-0.json").write_text("{}")
    config = {
        "name": old["name"],
        "model": {"path": "data/model"},
        "tasks": [{"name": name, "train": "data/0.jsonl", "test": "data/0.jsonl"} for name in old["tasks"]],
        "seeds": old["seeds"],
        "recipes": [{"label": label, "recipe": "sft"} for label in old["labels"]],
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    new = resume_comparison(tmp_path)
    SCHEMA.validate(new)
    assert new["status"] == "complete"
    assert_same_numbers({key: value for key, value in old.items() if key not in ("created", "holdfast_version")}, new)


def test_settings_get_their_new_names() -> None:
    old = written("run")
    old["recipe"] = {"name": "sort", "normalise_weights": True}
    assert upgrade(old)["recipe"] == {"name": "sort", "normalize_weights": True}
    old["recipe"] = {"name": "sdft", "support": "topk_renormalised"}
    assert upgrade(old)["recipe"] == {"name": "sdft", "support": "topk_renormalized"}


def test_what_was_added_to_version_1_over_time_is_filled_in() -> None:
    run = make_run("sdft", n=40, measures=False)
    untested = [entry | UNTESTED | {"outcome": "not tested"} for entry in run["score_changes"]]
    expected = run | {"score_changes": untested}
    expected["verdict"] = run_verdict(expected)
    for old in (as_version_1(run), as_version_2(run), as_version_3(run)):
        new = upgrade(old)
        SCHEMA.validate(new)
        assert new == expected
    empty = upgrade(as_version_1(make_run("sdft", n=40, stages=0)))
    SCHEMA.validate(empty)


def test_a_metric_that_was_registered_later_is_computed() -> None:
    run = make_run("sdft", n=40)
    older = copy.deepcopy(run)
    del older["metrics"]["kl_to_base"], older["metrics"]["ood"]["final"]
    assert upgrade(older) == run
    comparison = make_comparison(("sft", "sdft"), seeds=(0, 1), n=30)
    older = copy.deepcopy(comparison)
    for each in older["runs"]:
        del each["summary"]["metrics"]["backward_transfer"]
    for recipe in older["recipes"]:
        del recipe["metrics"]["backward_transfer"]
    del older["untrained"]["metrics"]["backward_transfer"]
    older["paired"] = [entry for entry in older["paired"] if entry["metric"] != "backward_transfer"]
    assert upgrade(older) == comparison


def test_a_summary_of_today_comes_back_as_it_is() -> None:
    for summary in (make_run(n=20), make_run(n=20, stages=0), make_comparison(("sft", "sdft"), seeds=(0,), n=20)):
        assert upgrade(summary) is summary
        check_summary(summary)
    assert all(not metric.is_missing(make_run(n=20)["metrics"]) for metric in METRICS.values())


@pytest.mark.parametrize("version", [None, 0, 5, "1"])
def test_other_versions_are_refused(version: Any, tmp_path: Path) -> None:
    path = kept(tmp_path, make_run(n=20) | {"schema_version": version})
    with pytest.raises(RunError, match=rf"schema_version is {version!r}, "):
        read_summary(path)


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda s: s.update(seed="three"), "does not match its schema: seed is 'three', not an integer"),
        (lambda s: s.update(extra=1), "does not match its schema: extra is unknown"),
        (lambda s: s["evaluations"][0]["scores"]["facts"].update(mean=1.5), "evaluations.0.scores.facts.mean"),
        (lambda s: s.pop("curves"), "does not match its schema: curves is missing"),
        (lambda s: s.pop("kind"), "is damaged: kind is None, not 'run' or 'comparison'"),
    ],
)
def test_a_broken_summary_is_refused_in_one_line(breakage: Any, message: str, tmp_path: Path) -> None:
    summary = make_run(n=20)
    breakage(summary)
    with pytest.raises(RunError) as caught:
        read_summary(kept(tmp_path, summary))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def comparison_recipe(summary: dict[str, Any]) -> dict[str, Any]:
    recipe: dict[str, Any] = summary["recipes"][0]
    return recipe


def first_run(summary: dict[str, Any]) -> dict[str, Any]:
    run: dict[str, Any] = summary["runs"][0]["summary"]
    return run


DAMAGES: dict[str, Any] = {
    "metrics of a recipe are null": lambda s: comparison_recipe(s).update(metrics=None),
    "metrics of a recipe are a list": lambda s: comparison_recipe(s).update(metrics=[]),
    "no metrics of a recipe": lambda s: comparison_recipe(s).pop("metrics"),
    "a recipe is null": lambda s: s["recipes"].__setitem__(0, None),
    "recipes are null": lambda s: s.update(recipes=None),
    "runs are null": lambda s: s.update(runs=None),
    "runs are an object": lambda s: s.update(runs={}),
    "a run is a number": lambda s: s["runs"].__setitem__(0, 3),
    "no summary of a run": lambda s: s["runs"][0].pop("summary"),
    "the summary of a run is a list": lambda s: s["runs"][0].update(summary=[]),
    "no version of a run": lambda s: first_run(s).pop("schema_version"),
    "a run is a comparison": lambda s: first_run(s).update(kind="comparison"),
    "no such kind": lambda s: s.update(kind="gate"),
    "kind is a list": lambda s: s.update(kind=[]),
    "the budget is text": lambda s: first_run(s).update(budget="none"),
    "evaluations are null": lambda s: first_run(s).update(evaluations=None),
    "an evaluation is empty": lambda s: first_run(s)["evaluations"].__setitem__(0, {}),
    "a score is null": lambda s: first_run(s)["evaluations"][0]["scores"].update(facts=None),
    "a set is a list": lambda s: first_run(s)["sets"].__setitem__(0, []),
    "a curve point is null": lambda s: first_run(s)["curves"].__setitem__(0, None),
    "the order is a number": lambda s: first_run(s).update(order=1),
    "the guard is a list": lambda s: first_run(s).update(guard=[]),
    "the recipe is null": lambda s: first_run(s).update(recipe=None),
}


COMPUTED_FROM_RUNS = [damage for damage in DAMAGES if "recipe" in damage and damage != "the recipe is null"]
"""Recipes of a comparison of version 1 are computed from its runs, so their damages do no harm."""


@pytest.mark.parametrize(
    ("damage", "version"),
    [(damage, version) for damage in DAMAGES for version in (1, 4) if version == 4 or damage not in COMPUTED_FROM_RUNS],
)
def test_a_damaged_comparison_is_one_line_with_the_file_and_the_fix(damage: str, version: int, tmp_path: Path) -> None:
    summary = written("comparison") if version == 1 else make_comparison(("sft", "sdft"), seeds=(0,), n=20)
    DAMAGES[damage](summary)
    path = kept(tmp_path, summary)
    with pytest.raises(RunError) as caught:
        read_summary(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "holdfast resume" in caught.value.fix
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "3", '"text"', "\x00", '{"schema_version": 2}', "[[[1]]"])
def test_a_file_that_is_no_summary_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text(text)
    with pytest.raises(RunError) as caught:
        read_summary(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "holdfast resume" in caught.value.fix
    assert "\n" not in str(caught.value)
