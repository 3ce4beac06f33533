"""`holdfast.stream.run`: a run directory of an earlier version resumes and reports."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

import holdfast
from holdfast import api
from holdfast.config.load import load_kept_config
from holdfast.config.settings import RunConfig
from small_runs import metrics_records

KEPT = Path(__file__).parents[1] / "fixtures" / "version-1"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A copy of the kept run, its paths led into the copy."""
    folder = tmp_path / "earlier"
    shutil.copytree(KEPT, folder)
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".yaml") and "checkpoints" not in path.parts:
            path.write_text(path.read_text().replace("@FOLDER@", str(folder)))
    return folder


def test_it_resumes_in_the_middle_of_a_rollout_batch_and_ends_as_a_run_of_today(earlier: Path, tmp_path: Path) -> None:
    run = earlier / "interrupted"
    config = load_kept_config(run / "config.yaml", RunConfig)
    assert config.recipe.objective().support == "topk_renormalized"  # called topk_renormalised then
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other versions of libraries, another number of threads
        resumed = holdfast.resume(run)
        whole = holdfast.run(config, tmp_path / "whole")
    assert resumed["status"] == whole["status"] == "complete"
    ours, theirs = (load_file(each / "models/stage-2/model.safetensors") for each in (run, tmp_path / "whole"))
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        # A step moves a weight by some 1e-3. What differs is how another machine rounds.
        assert_close(weight, theirs[name], rtol=0, atol=1e-4)
    steps = [(record["stage"], record["step"]) for record in metrics_records(run)]
    assert steps == [(stage, step) for stage in (1, 2) for step in range(1, 6)]
    assert (run / "report.html").stat().st_size > 10_000


def test_it_is_reported_as_it_is(earlier: Path) -> None:
    summary = json.loads((earlier / "interrupted" / "summary.json").read_text())
    assert summary["schema_version"] == 1
    page = api.report(earlier / "interrupted").read_text()
    assert "plus-0" in page
    assert "plus-1" in page
