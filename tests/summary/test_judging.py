"""`holdfast.summary.judging`: answers that were not judged are counted wherever a run asks a verifier, and said."""

from typing import Any

from holdfast.summary.inputs import Measured, RunLogs
from holdfast.summary.judging import failed_judgments, failures_in, sentences_on
from holdfast.summary.verdict import comparison_verdict
from summary_factory import make_comparison, make_run


def counts(timeouts: int, errors: int) -> dict[str, Any]:
    named = [f"error {number}" for number in range(errors)]
    return {"verifier_timeouts": timeouts, "verifier_errors": errors, "verifier_failures": named}


def test_steps_probes_searches_and_evaluations_count_undone_ones_too() -> None:
    logs = RunLogs(
        metrics=[counts(1, 0), {"loss": 1.0}],
        probes=[counts(10, 1)],
        decisions=[{"saw": {"kl_to_base": 0.5}}, {"saw": {"back_to": 2.0, "verifier_errors": 100.0}}],
        discarded=[
            {"log": "metrics.jsonl", "record": counts(0, 2)},
            {"log": "probes.jsonl", "record": counts(1000, 0)},
        ],
    )
    found = failed_judgments(logs, Measured(evaluations=[{"sets": {"a": counts(0, 10000), "b": {"mean": 1.0}}}]))
    assert (found["timeouts"], found["errors"]) == (1011, 10103)
    assert all(isinstance(found[name], int) for name in ("timeouts", "errors"))
    assert found["first"] == ["error 0", "error 0", "error 1"]


def test_an_evaluation_says_how_many_of_its_answers_were_not_judged() -> None:
    assert sentences_on(failures_in([counts(0, 0), {"mean": 0.5}])) == []
    (sentence,) = sentences_on(failures_in([counts(1, 0), counts(0, 2)]))
    assert sentence == (
        "3 judgments of a verifier did not succeed (1 took too long, 2 failed); each scored 0. The first: error 0."
    )


def test_a_comparison_says_in_how_many_of_its_runs_answers_were_not_judged() -> None:
    summary = make_comparison(("sft", "sdft"), seeds=(0, 1), n=8, steps=4)
    assert not any("scored 0" in sentence for sentence in comparison_verdict(summary))
    for run, failed in zip(summary["runs"], ((0, 0), (3, 2), (0, 0), (1, 0)), strict=True):
        run["summary"]["failed_judgments"] = {"timeouts": failed[0], "errors": failed[1], "first": ["it hung"]}
    del summary["runs"][0]["summary"]["failed_judgments"]  # of a version that did not count
    said = (
        "In 2 of 4 runs judgments of a verifier did not succeed, at most 5 in one; each scored 0. The first: it hung."
    )
    assert said in comparison_verdict(summary)


def test_a_run_without_failures_says_nothing() -> None:
    summary = make_run(n=8, steps=4, probe_steps=2)
    assert summary["failed_judgments"] == {"timeouts": 0, "errors": 0, "first": []}
    assert not any("scored 0" in sentence for sentence in summary["verdict"])
