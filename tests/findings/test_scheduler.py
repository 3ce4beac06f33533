"""`holdfast.findings.scheduler` and `holdfast.findings.run`: from claims to findings on the real lab."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.findings.arms import SDFT, SFT
from holdfast.findings.claim import Claim
from holdfast.findings.claims import CLAIMS
from holdfast.findings.page import as_json, as_pages, table_rows
from holdfast.findings.precondition import success
from holdfast.findings.provenance import provenance
from holdfast.findings.quantity import Quantity, WorldRuns, difference
from holdfast.findings.record import RunRecord
from holdfast.findings.records import RecordStore
from holdfast.findings.run import decide
from holdfast.findings.scheduler import (
    ArmRun,
    BaseWorld,
    ExperimentIn,
    Measurement,
    arms_of,
    beginning_of,
    distinct,
    runs_of,
    tuning_runs,
)
from holdfast.findings.voices import distance_of_demonstrations

TINY = {
    "train.steps": 2,
    "train.prompts_per_step": 2,
    "eval.max_items": 4,
    "eval.kl_items": 2,
    "eval.probe_steps": 0,
}
A, B = (replace(arm, settings=TINY, rate=1e-4) for arm in (SFT, SDFT))


def thrice(world: int) -> list[float]:
    return [3.0 * world]


def unused(runs: WorldRuns) -> None:
    return None


CLAIM = Claim(
    name="tiny",
    statement="Two steps teach nothing.",
    source="our own",
    arms=(A, B),
    preconditions=(success("facts", at_most=0.9),),
    quantities=(difference("lost", RunRecord.lost, "sft", "sdft", smallest=3),),
    against="They do.",
)

APART = Claim(
    "apart", "Worlds have numbers.", "our own", [Quantity("number", "", unused, 1)], "none.", experiment=thrice
)


@pytest.mark.processes
def test_claims_become_findings_and_nothing_is_measured_twice(tmp_path: Path) -> None:
    store, lines = RecordStore(tmp_path), list[str]()
    found = decide([CLAIM, APART], store, tmp_path, worlds=(0, 1), full=True, workers=2, watch=lines.append)
    assert found is not None
    tiny, apart = found.findings
    assert [each.is_met for each in tiny.preconditions] == [True]
    assert len(tiny.measured[0].values) == 2
    assert None not in tiny.measured[0].values
    assert apart.measured[0].values == [0.0, 3.0]
    assert found.rates == {"sft": 1e-4, "sdft": 1e-4}
    assert any("left" in line for line in lines)
    # Runs leave a record, not their weights.
    assert not list(tmp_path.glob("sft-*"))
    record = store.run(ArmRun(A, 0, 1e-4, True).name)
    assert record.style("success") is not None
    assert record.kl_on_old() is not None
    assert record.learned("probability") is not None
    assert record.tokens > 0

    before = {path: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    again = decide([CLAIM, APART], store, tmp_path, worlds=(0, 1), full=True, workers=2)
    assert again is not None
    assert [each.verdict for each in again.findings] == [each.verdict for each in found.findings]
    assert {path: path.stat().st_mtime_ns for path in store.folder.iterdir()} == before

    made = {"command": "holdfast findings", "worlds": [0, 1], "rates": found.rates, "date": "2026-01-01"}
    made |= provenance(store, found.runs).as_json()
    pages = as_pages(found.findings, made, Path("findings.md"))
    assert set(pages) == {Path("findings.md"), Path("findings/tiny.md"), Path("findings/apart.md")}
    assert "What would count against it: They do." in pages[Path("findings/tiny.md")]
    assert len(table_rows(found.findings)) == 2
    assert as_json(found.findings, made)["findings"][0]["name"] == "tiny"


def test_time_that_runs_out_starts_nothing(tmp_path: Path) -> None:
    assert decide([CLAIM], RecordStore(tmp_path), tmp_path, worlds=(0, 1), full=True, workers=1, minutes=0) is None
    assert not (tmp_path / "records").exists()


def test_a_measurement_is_named_after_everything_that_decides_it() -> None:
    names = {
        ArmRun(A, 0, 1e-4, True).name,
        ArmRun(A, 1, 1e-4, True).name,
        ArmRun(A, 0, 2e-4, True).name,
        ArmRun(B, 0, 1e-4, True).name,
        BaseWorld(0).name,
        ExperimentIn(APART.name, thrice, 0).name,
    }
    assert len(names) == 6


def test_every_measurement_can_be_sent_to_another_process() -> None:
    rates = {arm.label: 1e-4 for arm in arms_of(CLAIMS)}
    every = [*tuning_runs(arms_of(CLAIMS), full=True), *runs_of(CLAIMS, (0,), rates, full=True)]
    assert any(isinstance(each, ExperimentIn) for each in every)
    for each in every:
        assert pickle.loads(pickle.dumps(each)).name == each.name


def test_arms_with_the_same_settings_share_a_run_and_what_measures_more_serves_both() -> None:
    other = replace(A, label="other")
    more = replace(A, label="more", extra=distance_of_demonstrations)
    runs: list[Measurement] = [ArmRun(arm, 0, 1e-4, True) for arm in (A, other, B)]
    assert distinct(runs) == [runs[0], runs[2]]
    extended: list[Measurement] = [*runs, ArmRun(more, 0, 1e-4, True)]
    assert distinct(extended) == extended[2:]


def test_runs_of_one_world_share_the_evaluation_before_the_first_stage() -> None:
    assert beginning_of(ArmRun(A, 0, 1e-4, True).config) == beginning_of(ArmRun(B, 0, 2e-4, True).config)
    assert beginning_of(ArmRun(A, 0, 1e-4, True).config) != beginning_of(ArmRun(A, 1, 1e-4, True).config)
