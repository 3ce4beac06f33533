"""`holdfast.findings.claims.wide`: what the numbers of claims on the wider lab are read from."""

import math
from pathlib import Path
from typing import Any

import pytest
from holdfast.findings.claims.wide import SCORE, WIDE, gained

from holdfast.findings import decoding
from holdfast.findings.claim import Evidence
from holdfast.lab.tasks import lab_task
from holdfast.measure.metrics import compute_metrics


def _run(scores: list[float], tokens_per_step: int) -> dict[str, Any]:
    """A run of one stage, probed every five steps."""
    sets = [
        {"name": "steps", "kind": "task", "chance": 0.0},
        {"name": "known-steps", "kind": "retention", "chance": 0.0},
    ]
    points = [{"steps": score, "known-steps": 1.0} for score in scores]
    ends = [
        {"stage": stage, "task": None, "scores": {name: {"mean": value, "n": 100} for name, value in point.items()}}
        for stage, point in ((0, points[0]), (1, points[-1]))
    ]
    probes = [{"stage": 1, "step": 5 * i, "scores": point} for i, point in enumerate(points)]
    steps = 5 * (len(scores) - 1)
    budget = {"optimizer_steps": steps, "generated_tokens": tokens_per_step * steps}
    metrics = compute_metrics(ends, ["steps"], sets)
    found = {"order": ["steps"], "sets": sets, "evaluations": ends, "probes": probes}
    return found | {"budget": budget, "metrics": metrics}


def test_a_gain_is_the_stages_own_and_in_points() -> None:
    run = _run([0.2, 0.5, 0.9], 10)
    assert gained("steps")(run) == pytest.approx(70.0)
    assert gained("known-steps")(run) == 0.0
    assert gained("refusals")(run) is None


def test_tokens_are_compared_only_where_opsd_gets_there_and_where_not_it_is_counted() -> None:
    (claim,) = [each for each in WIDE if each.name == "opsd-fewer-tokens"]
    assert claim.measure is not None
    quick, slow, never = _run([0.0, SCORE, 1.0], 100), _run([0.0, 0.1, SCORE], 400), _run([0.0, 0.1, 0.2], 100)
    found = Evidence({"opsd-steps": [quick, never, quick], "grpo-steps": [slow, slow, never]}, {})
    score, times = claim.measure(found)
    assert score.values == [pytest.approx(20.0), pytest.approx(-60.0), pytest.approx(20.0)]
    # 10 · 400 over 5 · 100 tokens; nothing; a GRPO that never gets there took at least its whole stage.
    assert times.values == [pytest.approx(3.0), None, pytest.approx(math.log2(10 * 100 / (5 * 100)))]


@pytest.mark.slow
def test_quality_and_variance_of_the_base_itself() -> None:
    """The base solves few of the prompts on which it failed, and its distance from itself is 0."""
    from holdfast.findings import quality

    found = quality.quality_over_variance(lab_task("calculation"), {0: Path("lab")}, seed=0)
    assert found[0] is not None
    assert 0 <= found[0] < 0.4


@pytest.mark.slow
def test_decoding_compares_every_model_at_its_best_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "ITEMS", 8)
    monkeypatch.setattr(decoding, "TEMPERATURES", (0.3, 0.9))
    monkeypatch.setattr(decoding, "TRAIN", {**decoding.TRAIN, "steps": 1, "prompts_per_step": 4})
    asked = []

    def best(model: str, seed: int) -> float:
        asked.append(Path(model).name)
        return _best(model, seed)

    _best = decoding._best
    monkeypatch.setattr(decoding, "_best", best)
    quantities = decoding.decoding_conflict([0])
    assert asked == ["lab-wide", "stage-1", "stage-1", "stage-1"]
    assert len(quantities) == 3
    for quantity in quantities:
        assert all(value is not None and -100 <= value <= 100 for value in quantity.values)
