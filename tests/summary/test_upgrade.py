"""`holdfast.summary.upgrade` and `holdfast.summary.read`: summaries of earlier versions are read as today's.

The files in fixtures/version-1/summaries were written by the last version whose summaries were of version 1: a complete
run, one that was interrupted in its first stage, and a comparison of two recipes over two seeds.
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
from holdfast.errors import RunError
from holdfast.measure.metrics import METRICS
from holdfast.renamed import with_new_names
from holdfast.stream.compare import resume_comparison
from holdfast.summary.read import check_summary, read_summary
from holdfast.summary.schema import summary_schema
from holdfast.summary.upgrade import upgrade
from summary_factory import make_comparison, make_run

SCHEMA = jsonschema.Draft202012Validator(summary_schema())
FIXTURES = Path(__file__).parent.parent / "fixtures" / "version-1" / "summaries"
NAMES = ("run", "interrupted", "comparison")


def written(name: str) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(gzip.decompress((FIXTURES / f"{name}.json.gz").read_bytes()))
    assert summary["schema_version"] == 1
    return summary


def kept(folder: Path, summary: dict[str, Any]) -> Path:
    """The summary in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder / "summary.json"


def as_version_1(summary: dict[str, Any]) -> dict[str, Any]:
    """A run's summary as the first of version 1 were: without what was added while the version stayed the same."""
    old = copy.deepcopy(summary)
    old["schema_version"] = 1
    for key in ("drift", "responses", "artifacts", "repetition", "forgetting_prediction"):
        del old[key]
    for point in old["curves"]:
        for key in ("entropy", "kl_teacher", "teacher_divergence", "kl_base", "distinct_2"):
            del point[key]
    del old["metrics"]["ood"]["final"]
    return old


def assert_same_numbers(old: Any, new: Any, path: str = "") -> None:
    """Whatever the old summary has, the new one has too, except for its version and its sentences."""
    if path.endswith((".schema_version", ".verdict")):
        return
    if path.endswith(".paired"):
        by_place = {(entry["a"], entry["b"], entry["metric"]): entry for entry in new}
        assert [by_place[entry["a"], entry["b"], entry["metric"]] for entry in old] == old
    elif path.endswith((".recipe", ".guard")):
        assert with_new_names({"recipe": old})["recipe"] == new  # settings, under their names of today
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


@pytest.mark.parametrize("name", NAMES)
def test_version_1_is_read_as_version_2_with_the_same_numbers(name: str, tmp_path: Path) -> None:
    old = written(name)
    path = kept(tmp_path, old)
    before = path.read_bytes()
    new = read_summary(path)
    assert path.read_bytes() == before
    assert new["schema_version"] == 2
    SCHEMA.validate(new)
    assert_same_numbers(old, new)


@pytest.mark.parametrize("name", NAMES)
def test_version_1_is_reported_and_printed(name: str, tmp_path: Path) -> None:
    old = written(name)
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
    old["recipe"] |= {"support": "topk_renormalised", "normalise_weights": True}
    recipe = upgrade(old)["recipe"]
    assert (recipe["support"], recipe["normalize_weights"]) == ("topk_renormalized", True)
    assert "normalise_weights" not in recipe


def test_what_was_added_to_version_1_over_time_is_filled_in() -> None:
    run = make_run("sdft", n=40, measures=False)
    new = upgrade(as_version_1(run))
    SCHEMA.validate(new)
    assert new == run
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
    older["paired"] = [entry for entry in older["paired"] if entry["metric"] != "backward_transfer"]
    assert upgrade(older) == comparison


def test_a_summary_of_today_comes_back_as_it_is() -> None:
    for summary in (make_run(n=20), make_run(n=20, stages=0), make_comparison(("sft", "sdft"), seeds=(0,), n=20)):
        assert upgrade(summary) is summary
        check_summary(summary)
    assert all(not metric.is_missing(make_run(n=20)["metrics"]) for metric in METRICS.values())


@pytest.mark.parametrize("version", [None, 0, 3, "1"])
def test_other_versions_are_refused(version: Any, tmp_path: Path) -> None:
    path = kept(tmp_path, make_run(n=20) | {"schema_version": version})
    with pytest.raises(RunError, match=rf"schema_version {version}; this version of holdfast reads 1 to 2"):
        read_summary(path)


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda s: s.update(seed="three"), "does not match its schema: seed: Input should be a valid integer"),
        (lambda s: s.update(extra=1), "does not match its schema: extra: Extra inputs are not permitted"),
        (lambda s: s["evaluations"][0]["scores"]["facts"].update(mean=1.5), "evaluations.0.scores.facts.mean"),
        (lambda s: s.pop("curves"), "does not match its schema: curves: Field required"),
        (lambda s: s.pop("kind"), "is damaged: KeyError 'kind'"),
    ],
)
def test_a_broken_summary_is_refused_in_one_line(breakage: Any, message: str, tmp_path: Path) -> None:
    summary = make_run(n=20)
    breakage(summary)
    with pytest.raises(RunError) as caught:
        read_summary(kept(tmp_path, summary))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
