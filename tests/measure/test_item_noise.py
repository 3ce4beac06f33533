"""`holdfast.measure.item_noise`: the noise of a metric's difference, by hand and against new draws of items."""

import math
from typing import Any

import numpy as np
import pytest

from holdfast.measure.item_noise import metric_noise
from holdfast.measure.metrics import METRICS, compute_metrics, flatten_metrics

SETS = [
    {"name": "new", "kind": "task", "chance": 0.0},
    {"name": "old", "kind": "retention", "chance": 0.0},
    {"name": "older", "kind": "retention", "chance": 0.0},
]


def run(before: dict[str, float], after: dict[str, float], n: int = 100) -> Any:
    evaluations = [
        {"stage": stage, "task": None, "scores": {name: {"mean": value, "n": n} for name, value in own.items()}}
        for stage, own in enumerate((before, after))
    ]
    return {"order": ["new"], "evaluations": evaluations, "metrics": compute_metrics(evaluations, ["new"], SETS)}


BEFORE = {"new": 0.1, "old": 0.9, "older": 0.8}
A = run(BEFORE, {"new": 0.9, "old": 0.5, "older": 0.6})
B = run(BEFORE, {"new": 0.7, "old": 0.8, "older": 0.7})


def error(score: float, n: int = 100) -> float:
    moved = (score * n + 1) / (n + 2)
    return math.sqrt(moved * (1 - moved) / n)


def test_by_hand() -> None:
    assert metric_noise("final_score", [(A, B)]) == pytest.approx(math.hypot(error(0.9), error(0.7)))
    assert metric_noise("first_task_learned", [(A, B)]) == pytest.approx(math.hypot(error(0.9), error(0.7)))
    # The mean of two sets, each from two evaluations.
    parts = [error(x) for x in (0.5, 0.6, 0.8, 0.7)]
    assert metric_noise("loss_of_earlier", [(A, B)]) == pytest.approx(math.sqrt(2) * math.hypot(*parts) / 2)
    # Root mean square over pairs.
    pairs = [(A, A), (B, B)]
    squares = [metric_noise("final_score", [pair]) or 0.0 for pair in pairs]
    assert metric_noise("final_score", pairs) == pytest.approx(math.sqrt((squares[0] ** 2 + squares[1] ** 2) / 2))


def test_it_is_not_known_for_what_is_no_mean_of_scores() -> None:
    assert metric_noise("kl_to_base", [(A, B)]) is None
    assert metric_noise("final_score", []) is None
    assert metric_noise("backward_transfer", [(A, B)]) is None  # one task: nothing is earlier


def test_every_metric_has_it_or_none() -> None:
    values = flatten_metrics(A["metrics"])
    for name, metric in METRICS.items():
        noise = metric_noise(name, [(A, B)])
        assert (noise is not None) == (values[name] is not None and metric.kind != "nats")


def test_it_is_the_spread_under_new_items() -> None:
    """Right and wrong answers to new items at every evaluation, with the end's scores throughout."""
    rng = np.random.default_rng(0)
    truth = {"new": 0.5, "old": 0.5, "older": 0.6}

    def drawn() -> Any:
        before, after = ({name: rng.binomial(100, p) / 100 for name, p in truth.items()} for _ in range(2))
        return run(before, after)

    pairs = [(drawn(), drawn()) for _ in range(400)]
    for name, place in (("loss_of_earlier", "loss_of_earlier"), ("final_score", "final_score")):
        differences = [a["metrics"][place]["mean"] - b["metrics"][place]["mean"] for a, b in pairs]
        assert metric_noise(name, pairs) == pytest.approx(np.std(differences), rel=0.1)
