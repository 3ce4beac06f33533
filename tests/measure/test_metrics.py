"""`holdfast.measure.metrics` and `holdfast.measure.scores`: each metric against a matrix worked by hand."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.measure.metrics import METRICS, compute_metrics, flatten_metrics

ORDER = ["a", "b", "c"]
SETS = [
    *({"name": t, "kind": "task", "chance": 0.0} for t in ORDER),
    {"name": "old", "kind": "retention", "chance": 0.0},
    {"name": "older", "kind": "retention", "chance": 0.0},
    {"name": "a-ood", "kind": "ood", "chance": 0.0},
]
#        a    b    c    old  older a-ood
MATRIX = [
    [0.1, 0.2, 0.3, 0.9, 1.0, 0.0],
    [0.8, 0.3, 0.3, 0.8, 1.0, 0.5],
    [0.9, 0.7, 0.4, 0.7, 0.9, 0.4],
    [0.6, 0.6, 0.9, 0.7, 0.8, 0.2],
]


#      a    b    c    old  older a-ood
NLL = [
    [3.0, 2.0, 1.0, 0.5, None, 4.0],
    [1.0, 2.5, 1.0, 0.6, None, 4.0],
    [1.5, 0.5, 1.5, 0.8, None, 4.0],
    [2.0, 0.4, 0.2, 0.9, None, 4.0],
]
"""Of demonstrations; one suite has none."""


NOT_SCORES = ("nll", "probability", "kl_to_base", "kl_forgetting", "pass_at_k", "avg_at_k")


def with_more(evaluations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with NLL, probabilities of right answers, KL on demonstrations, and with samples of tasks a and b."""
    for evaluation, row in zip(evaluations, NLL, strict=False):
        for place, (own, nll) in enumerate(zip(evaluation["scores"].values(), row, strict=True)):
            own["nll"] = nll
            own["forced"] = None if nll is None else {"probability": (4 - nll) / 4}
            own["kl_on_demonstrations"] = None if nll is None else nll / 10
            passed = [{"k": k, "mean": 0.1 * k * (place + 1)} for k in (1, 4)]
            own["sampled"] = {"avg_at_k": 0.05 * (place + 1), "pass_at_k": passed} if place < 2 else None
    return evaluations


def evaluations(rows: list[list[float]], kl: float | None = None) -> list[dict[str, Any]]:
    names = [s["name"] for s in SETS]
    return [
        {
            "stage": i,
            "task": ORDER[i - 1] if i else None,
            "scores": {
                n: {"mean": v, "n": 100, "kl_to_base": kl if n in ORDER else None}
                for n, v in zip(names, row, strict=True)
            },
        }
        for i, row in enumerate(rows)
    ]


def test_the_worked_example() -> None:
    m = compute_metrics(evaluations(MATRIX, kl=0.25), ORDER, SETS)
    approx = pytest.approx
    assert m["learning"] == approx({"per_task": approx({"a": 0.7, "b": 0.5, "c": 0.6}), "mean": approx(0.6)})
    assert m["learned_score"]["per_task"] == approx({"a": 0.8, "b": 0.7, "c": 0.9})
    assert m["final_score"] == {"per_task": approx({"a": 0.6, "b": 0.6, "c": 0.9}), "mean": approx(0.7)}
    forgetting = m["forgetting"]
    assert forgetting["from_learned"] == {"per_task": approx({"a": 0.2, "b": 0.1}), "mean": approx(0.15)}
    assert forgetting["from_best"] == {"per_task": approx({"a": 0.3, "b": 0.1}), "mean": approx(0.2)}
    assert forgetting["from_base"] == {"per_task": approx({"a": -0.5, "b": -0.4, "c": -0.6}), "mean": approx(-0.5)}
    assert m["backward_transfer"] == approx(-0.15)
    assert m["forward_transfer"] == approx((0.1 + 0.1) / 2)
    assert m["retention"] == {
        "per_suite": approx({"old": -0.2, "older": -0.2}),
        "mean": approx(-0.2),
        "final": approx(0.75),
    }
    assert m["ood"] == {"per_suite": approx({"a-ood": 0.2}), "mean": approx(0.2), "final": approx(0.2)}
    assert m["kl_to_base"] == {"per_task": {"a": 0.25, "b": 0.25, "c": 0.25}, "mean": 0.25}
    assert m["first_task_learned"] == 0.8
    lost = {"a": 0.2, "b": 0.1, "old": 0.2, "older": 0.2}
    assert m["loss_of_earlier"] == {"per_set": approx(lost), "mean": approx(0.175)}


def test_every_metric_has_its_one_number() -> None:
    flat = flatten_metrics(compute_metrics(with_more(evaluations(MATRIX, kl=0.25)), ORDER, SETS))
    assert list(flat) == list(METRICS)
    assert flat["forgetting"] == pytest.approx(0.15)
    assert flat["forgetting_from_best"] == pytest.approx(0.2)
    assert flat["retention_final"] == pytest.approx(0.75)
    assert all(value is not None for value in flat.values())


def test_the_nll_of_demonstrations_falls_when_learned_and_rises_when_forgotten() -> None:
    m = compute_metrics(with_more(evaluations(MATRIX)), ORDER, SETS)["nll"]
    assert m["per_task"] == {"a": 2.0, "b": 0.4, "c": 0.2}
    assert m["mean"] == pytest.approx(2.6 / 3)
    assert m["learning"]["per_task"] == pytest.approx({"a": -2.0, "b": -1.5, "c": -0.8})
    assert m["forgetting"]["per_set"] == pytest.approx({"a": 1.0, "b": -0.1, "old": 0.4})


def test_the_probability_of_the_right_answer_rises_when_learned_and_falls_when_lost() -> None:
    m = compute_metrics(with_more(evaluations(MATRIX)), ORDER, SETS)
    approx = pytest.approx
    assert m["probability"]["per_task"] == approx({"a": 0.5, "b": 0.9, "c": 0.95})
    assert m["probability"]["learned"]["per_task"] == approx({"a": 0.5, "b": 0.375, "c": 0.2})
    assert m["probability"]["lost"]["per_set"] == approx({"a": 0.25, "b": -0.025, "old": 0.1})
    assert m["kl_forgetting"] == {"per_suite": approx({"old": 0.09}), "mean": approx(0.09)}


def test_pass_at_k_is_that_of_the_largest_k_over_the_tasks_that_were_sampled() -> None:
    m = compute_metrics(with_more(evaluations(MATRIX)), ORDER, SETS)
    assert m["pass_at_k"] == {"per_task": pytest.approx({"a": 0.4, "b": 0.8}), "mean": pytest.approx(0.6)}
    assert m["avg_at_k"]["mean"] == pytest.approx(0.075)


@pytest.mark.parametrize("unjudged", ["a", "b", "c", "old", "a-ood"])
def test_a_set_that_nothing_judges_is_in_no_score(unjudged: str) -> None:
    """It is as if the set had not been scored. Only its NLL is there, and nothing takes it for a score of 0."""
    scored, never = with_more(evaluations(MATRIX, kl=0.25)), with_more(evaluations(MATRIX, kl=0.25))
    for with_null, without in zip(scored, never, strict=True):
        with_null["scores"][unjudged]["mean"] = None
        del without["scores"][unjudged]["mean"]
    m = compute_metrics(scored, ORDER, SETS)
    assert m == compute_metrics(never, ORDER, SETS)
    assert m["nll"] == compute_metrics(with_more(evaluations(MATRIX)), ORDER, SETS)["nll"]
    scores = [value for name, value in m.items() if name not in NOT_SCORES]
    assert f"'{unjudged}'" not in str(scores)


def test_one_task_has_nothing_earlier() -> None:
    sets = SETS[:1]
    m = compute_metrics(evaluations(MATRIX[:2]), ["a"], sets)
    flat = flatten_metrics(m)
    undefined = {name for name, value in flat.items() if value is None}
    assert undefined == {
        "forgetting", "forgetting_from_best", "backward_transfer", "forward_transfer",
        "retention", "retention_final", "ood", "ood_final", "kl_to_base", "loss_of_earlier",
        "nll", "nll_learning", "nll_forgetting", "pass_at_k", "avg_at_k",
        "probability", "probability_learned", "probability_lost", "kl_forgetting",
    }  # fmt: skip
    assert flat["learning"] == pytest.approx(0.7)
    assert m["forgetting"]["from_base"]["mean"] == pytest.approx(-0.7)


def test_an_unfinished_stream_speaks_of_the_tasks_learned_so_far() -> None:
    m = compute_metrics(evaluations(MATRIX[:3], kl=0.25), ORDER, SETS)
    assert set(m["kl_to_base"]["per_task"]) == {"a", "b"}
    assert set(m["final_score"]["per_task"]) == {"a", "b"}
    assert m["forgetting"]["from_learned"]["per_task"] == pytest.approx({"a": -0.1})
    before_any = compute_metrics(evaluations(MATRIX[:1]), ORDER, SETS)
    assert before_any["learning"] == {"per_task": {}, "mean": None}
    assert before_any["first_task_learned"] is None
    assert before_any["retention"]["mean"] == 0.0


def test_a_task_that_was_never_scored_is_left_out() -> None:
    rows = evaluations(MATRIX)
    for row in rows:
        del row["scores"]["b"]
    m = compute_metrics(rows, ORDER, SETS)
    assert set(m["learning"]["per_task"]) == {"a", "c"}
    assert set(m["loss_of_earlier"]["per_set"]) == {"a", "old", "older"}


def test_no_forgetting_is_no_negative_zero() -> None:
    m = compute_metrics(evaluations([MATRIX[1]] * 4), ORDER, SETS)
    assert str(m["backward_transfer"]) == "0.0"


def test_average_incremental_score_is_the_mean_over_stages() -> None:
    # Stage 1: a. Stage 2: a and b. Stage 3: a, b and c.
    stages = [0.8, (0.9 + 0.7) / 2, (0.6 + 0.6 + 0.9) / 3]
    m = compute_metrics(evaluations(MATRIX), ORDER, SETS)
    assert m["average_incremental_score"] == pytest.approx(sum(stages) / 3)
    unfinished = compute_metrics(evaluations(MATRIX[:3]), ORDER, SETS)
    assert unfinished["average_incremental_score"] == pytest.approx(0.8)
    assert compute_metrics(evaluations(MATRIX[:1]), ORDER, SETS)["average_incremental_score"] is None


def two_tasks(first: list[float], suite: list[float], n: int = 100, chance: float = 0.0) -> dict[str, Any]:
    """Metrics of two stages, from the first task's scores and a suite's before, after stage 1 and at the end."""
    sets = [
        {"name": "a", "kind": "task", "chance": chance},
        {"name": "b", "kind": "task", "chance": chance},
        {"name": "old", "kind": "retention", "chance": chance},
        {"name": "sure", "kind": "retention", "chance": 0.0},
    ]
    rows = [
        {"stage": i, "task": None, "scores": {name: {"mean": v, "n": n} for name, v in zip("ab", (x, 0.6))}
         | {"old": {"mean": y, "n": n}, "sure": {"mean": 1.0 - 0.1 * i, "n": n}}}
        for i, (x, y) in enumerate(zip(first, suite, strict=True))
    ]  # fmt: skip
    return compute_metrics(rows, ["a", "b"], sets)


def test_what_a_stage_lost_of_its_own_task_is_not_forgotten_after_it() -> None:
    """Base .9, learned .5, end .5: the rows before the task's own stage once gave a forgetting of .4."""
    m = two_tasks([0.9, 0.5, 0.5], [0.5] * 3)["forgetting"]
    assert m["from_best"]["per_task"] == {"a": 0.0}
    assert m["from_learned"]["per_task"] == {"a": 0.0}
    assert m["from_base"]["per_task"]["a"] == pytest.approx(0.4)


def test_from_best_is_negative_if_a_task_ends_better_than_ever_before() -> None:
    """Chaudhry's maximum leaves out the last row. A maximum over all rows once made every such gain a 0."""
    assert two_tasks([0.1, 0.5, 0.8], [0.5] * 3)["forgetting"]["from_best"]["mean"] == pytest.approx(-0.3)


@given(st.lists(st.lists(st.floats(0.2, 1), min_size=3, max_size=3), min_size=4, max_size=4))
def test_from_best_is_the_published_formula_over_the_rows_since_the_tasks_own_stage(rows: list[list[float]]) -> None:
    sets = [{"name": task, "kind": "task", "chance": 0.0} for task in ORDER]
    made = [
        {"stage": i, "task": None, "scores": {t: {"mean": v, "n": 100} for t, v in zip(ORDER, row, strict=True)}}
        for i, row in enumerate(rows)
    ]
    k = len(ORDER)
    expected = {ORDER[j - 1]: max(rows[r][j - 1] for r in range(j, k)) - rows[k][j - 1] for j in range(1, k)}
    m = compute_metrics(made, ORDER, sets)["forgetting"]
    assert m["from_best"]["per_task"] == pytest.approx(expected)
    assert all(m["from_best"]["per_task"][task] >= m["from_learned"]["per_task"][task] - 1e-12 for task in expected)


@pytest.mark.parametrize(("base", "chance"), [(0.0, 0.0), (0.01, 0.0), (0.25, 0.25), (0.3, 0.25), (0.1, 0.25)])
def test_a_suite_with_nothing_to_lose_dilutes_no_number_of_forgetting(base: float, chance: float) -> None:
    """The base scores 0 or chance there. Such a suite once counted as one that lost nothing, or even gained."""
    for end in (base, 0.0, 0.9):
        m = two_tasks([0.0, 0.9, 0.9], [base, base, end], chance=chance)
        assert m["retention"]["per_suite"] == pytest.approx({"sure": -0.2})
        assert m["retention"]["final"] == pytest.approx(0.8)
        assert m["loss_of_earlier"]["per_set"] == pytest.approx({"a": 0.0, "sure": 0.2})
    counted = two_tasks([0.0, 0.9, 0.9], [chance + 0.2, 0.0, 0.0], chance=chance)
    assert counted["retention"]["per_suite"]["old"] == pytest.approx(-chance - 0.2)


def test_a_task_that_was_not_learned_has_nothing_to_forget_and_still_transfers() -> None:
    m = two_tasks([0.0, 0.0, 0.7], [0.5] * 3)
    assert m["forgetting"]["from_learned"] == {"per_task": {}, "mean": None}
    assert m["forgetting"]["from_best"] == {"per_task": {}, "mean": None}
    assert "a" not in m["loss_of_earlier"]["per_set"]
    assert "a" not in m["forgetting"]["from_base"]["per_task"]
    assert m["backward_transfer"] == pytest.approx(0.7)
