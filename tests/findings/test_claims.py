"""`holdfast.findings.claims`: every claim is complete, and its file says what counts before anything is measured."""

import re
from pathlib import Path

import pytest

import holdfast.findings.claims as folder
from holdfast.findings.arm import ClaimArm
from holdfast.findings.claim import Claim
from holdfast.findings.claims import CLAIMS
from holdfast.findings.record import RunRecord
from holdfast.findings.scheduler import arms_of

BY_NAME = {claim.name: claim for claim in CLAIMS}


def test_each_file_has_one_claim_of_its_own_name() -> None:
    files = {path.stem for path in Path(str(folder.__file__)).parent.glob("*.py")} - {"__init__"}
    assert len(BY_NAME) == len(CLAIMS) == len(files)
    assert {name.replace("-", "_") for name in BY_NAME} == files


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_a_claim_says_its_source_and_what_would_count_against_it(claim: Claim) -> None:
    assert re.search(r"arXiv \d{4}\.\d{5}|ICML|LLaMA-Factory|our own", claim.source)
    assert claim.statement.endswith(".")
    assert claim.against.endswith(".")
    assert (claim.experiment is None) == bool(claim.arms)
    assert all(quantity.smallest > 0 for quantity in claim.quantities)


def made_up(arm: ClaimArm) -> RunRecord:
    """A record of an arm with every number that records have. The numbers differ from arm to arm."""
    share = len(arm.label) % 7 / 10
    values = {"score": share, "kl": share, "kl_new": share, "nll": 1.0, "probability": share, "truncated": 0.0}
    tasks, suites = list(arm.stream.tasks), list(arm.stream.suites)
    style = dict.fromkeys(("tics", "preambles", "artifacts", "main_form", "no_form", "success"), share)
    stage = {"sets": dict.fromkeys([*tasks, *suites], values), "style": {"new": style, "old": style}, "drift": 0.1}
    curve = [{"step": s, "tokens": 10 * s, "task": s / 60, "suites": 1.0} for s in (0, 20, 40, 60)]
    return RunRecord(
        {
            "tasks": tasks,
            "suites": suites,
            "stages": [{**stage, "sets": {name: {**values, "score": 0.9} for name in (*tasks, *suites)}}]
            + [stage] * len(tasks),
            "curve": curve,
            "spent": {"generated_tokens": 100, "trained_tokens": 100, "optimizer_steps": 10},
            "extra": {"net": 1.0, "kept": 1.0, "distance": sum(map(ord, arm.label)) / 1000},
        }
    )


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.arms], ids=lambda claim: claim.name)
def test_quantities_read_only_arms_of_the_claim(claim: Claim) -> None:
    class Asked(dict[str, RunRecord]):
        def __missing__(self, label: str) -> RunRecord:
            raise AssertionError(f"{claim.name} reads {label}, which is none of its arms")

    runs = Asked({arm.label: made_up(arm) for arm in claim.arms})
    for quantity in claim.quantities:
        assert quantity.measure(runs) is not None, quantity.name


def test_every_arm_is_a_valid_configuration_and_is_defined_once() -> None:
    for arm in arms_of(CLAIMS):
        for full in (True, False):
            config = arm.config(3, 1e-4, full=full)
            assert config.seed == 3
            assert config.train.learning_rate == 1e-4


def test_the_quick_form_has_the_claims_of_the_papers_behind_holdfast() -> None:
    quick = [claim.source for claim in CLAIMS if claim.is_quick]
    for paper in ("2601.19897", "2601.20802", "2607.01763"):
        assert any(paper in source for source in quick)
    assert len(quick) < len(CLAIMS) / 3
