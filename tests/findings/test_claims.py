"""`holdfast.findings.claims`: every claim is complete, and its file says what counts before anything is measured."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

import holdfast.findings.claims as folder
from holdfast.findings.arm import ClaimArm
from holdfast.findings.claim import Claim
from holdfast.findings.claims import CLAIMS
from holdfast.findings.quantity import Quantity
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


def run_with(arm: ClaimArm, **changes: Any) -> RunRecord:
    return RunRecord({**made_up(arm).data, **changes})


def deciding(claim: Claim) -> list[Quantity]:
    return [quantity for quantity in claim.quantities if quantity.decides]


def test_tokens_of_a_score_that_opsd_never_reaches_are_no_evidence() -> None:
    claim = BY_NAME["opsd-fewer-tokens"]
    (quantity,) = deciding(claim)
    low = [{"step": s, "tokens": s, "task": s / 120, "suites": None} for s in (0, 20, 40, 60)]
    high = [{**point, "task": 2 * point["task"]} for point in low]
    opsd, grpo = claim.arms
    cheap, dear = ({"generated_tokens": tokens, "optimizer_steps": 60} for tokens in (600, 4800))

    def measured(of_opsd: list[Any], of_grpo: list[Any]) -> float | None:
        runs = run_with(opsd, curve=of_opsd, spent=cheap), run_with(grpo, curve=of_grpo, spent=dear)
        return quantity.measure({opsd.label: runs[0], grpo.label: runs[1]})

    assert measured(high, high) == pytest.approx(3)
    assert measured(high, low) == pytest.approx(3 + math.log2(60 / 36))
    assert measured(low, high) is None
    assert measured(low, low) is None


def test_the_better_of_two_noisy_parts_does_not_decide_about_the_whole() -> None:
    claim = BY_NAME["whole-solution-not-best"]
    (quantity,) = deciding(claim)
    scores = {"exposure-0.25": 0.9, "exposure-0.5": 0.4, "opsd": 0.5}
    runs = {
        arm.label: run_with(arm, stages=[{"sets": {}}, {"sets": {"steps": {"score": scores[arm.label]}}}])
        for arm in claim.arms
    }
    assert quantity.measure(runs) == pytest.approx(-10)


def test_grpo_amplifying_as_well_counts_against_the_claim_about_it() -> None:
    claim = BY_NAME["sdpo-amplifies-artifacts-grpo-does-not"]
    before, after = ({"sets": {}, "style": {"new": {"artifacts": share}}} for share in (0.05, 0.35))
    runs = {arm.label: run_with(arm, stages=[before, after]) for arm in claim.arms}
    values = [quantity.measure(runs) for quantity in deciding(claim)]
    assert values == pytest.approx([30, 0, -30])


def test_a_run_that_two_arms_share_counts_once_in_a_correlation() -> None:
    claim = BY_NAME["kl-predicts-forgetting"]
    (quantity,) = deciding(claim)

    def run(arm: ClaimArm, place: int) -> RunRecord:
        kl, lost = [(0.1, 0.1), (0.2, 0.3), (0.3, 0.2), (0.4, 0.4)][place]
        sets = [
            {"facts": {"kl_new": kl}} | {suite: {"score": score} for suite in arm.stream.suites}
            for score in (1.0, 1 - lost)
        ]
        return run_with(arm, stages=[{"sets": sets[0]}, {"sets": sets[1], "drift": kl}])

    runs = {arm.label: run(arm, min(place, 3)) for place, arm in enumerate(claim.arms)}
    assert quantity.measure(runs) == pytest.approx(0.8 - 0.5)


def test_rewriting_has_to_be_cheaper() -> None:
    claim = BY_NAME["rewriting-keeps-as-much-as-sdft"]
    tokens = {"sft": 1000, "sdft": 800, "rewrite-sft": 400}
    runs = {
        arm.label: run_with(arm, spent={"generated_tokens": 0, "trained_tokens": tokens[arm.label]})
        for arm in claim.arms
    }
    assert deciding(claim)[-1].measure(runs) == pytest.approx(1)


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
