"""`holdfast.stream.check.duration`: timing changes nothing, and what is timed is counted as often as a run does it."""

from pathlib import Path

import pytest
import torch

import holdfast
from holdfast.config.load import load_config
from holdfast.config.settings import RunConfig
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.check.duration import time_estimate
from holdfast.stream.check.trial import try_batches
from holdfast.stream.manifest import weights_hash
from holdfast.stream.run import Run
from small_runs import RUNS, metrics_records, write_config


def _prepared(path: Path, folder: Path) -> Run:
    run = Run(load_config(path, RunConfig), RunDirectory(folder))
    run.prepare()
    return run


@pytest.mark.parametrize("name", RUNS)
def test_timing_changes_nothing(tmp_path: Path, name: str) -> None:
    run = _prepared(write_config(tmp_path, name), tmp_path / "run")
    teacher = {} if run.teacher is None else {k: v.clone() for k, v in run.teacher.state().items()}
    before, random = weights_hash(run.policy), torch.get_rng_state()
    estimate = time_estimate(run, [try_batches(run, number, 2) for number in (1, 2)])
    assert weights_hash(run.policy) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert all(weight.grad is None for weight in run.policy.model.parameters())
    if run.teacher is not None:
        assert all(torch.equal(value, teacher[key]) for key, value in run.teacher.state().items())
    assert not (tmp_path / "run").exists()
    assert min(estimate.values()) >= 0
    assert estimate["total"] == pytest.approx(estimate["sampling"] + estimate["training"] + estimate["evaluations"])
    assert estimate["step"] == pytest.approx((estimate["sampling"] + estimate["training"]) / 10)


def test_a_run_after_it_is_the_same_run(tmp_path: Path) -> None:
    path = write_config(tmp_path, "sdpo")
    holdfast.run(path, tmp_path / "plain")
    run = _prepared(path, tmp_path / "timed")
    time_estimate(run, [try_batches(run, number, 2) for number in (1, 2)])
    run.prepare = lambda: None  # type: ignore[method-assign]  # as it is, after the timing
    run.start()
    losses = [[record["loss"] for record in metrics_records(tmp_path / each)] for each in ("plain", "timed")]
    assert losses[0] == losses[1]


def test_a_batch_without_a_signal_is_timed_as_if_it_had_one(tmp_path: Path) -> None:
    config = load_config(
        write_config(tmp_path, "grpo", recipe="grpo"), RunConfig, {"tasks.plus-0.verifier": "judges:never"}
    )
    run = Run(config, RunDirectory(tmp_path / "run"))
    run.prepare()
    trials = [try_batches(run, number, 2) for number in (1, 2)]
    assert not any(row.has_signal for row in trials[0].batch)
    calls = []
    plain = run.policy.run
    run.policy.run = lambda work: calls.append(1) or plain(work)  # type: ignore[method-assign, func-returns-value]
    time_estimate(run, trials)
    assert len(calls) >= 4
    assert not any(row.has_signal for row in trials[0].batch)


def test_samples_for_pass_at_k_take_time(tmp_path: Path) -> None:
    """Twenty samples of each item are twenty more answers."""
    path = write_config(tmp_path, "grpo", eval={"kl_items": 0})
    seconds = []
    for changes in ({}, {"eval.pass_at_k": [1, 20]}):
        run = Run(load_config(path, RunConfig, changes), RunDirectory("unused"))
        run.prepare()
        seconds.append(time_estimate(run, [try_batches(run, number, 2) for number in (1, 2)])["evaluations"])
    assert seconds[1] > 5 * seconds[0]


def test_more_steps_and_more_probes_take_longer(tmp_path: Path) -> None:
    path = write_config(tmp_path, "grpo")
    few, many = (
        Run(load_config(path, RunConfig, {"train.steps": steps, "eval.probe_steps": probe}), RunDirectory("unused"))
        for steps, probe in ((2, 0), (2000, 1))
    )
    times = []
    for run in (few, many):
        run.prepare()
        times.append(time_estimate(run, [try_batches(run, number, 2) for number in (1, 2)]))
    assert times[1]["training"] > 50 * times[0]["training"]
    assert times[1]["sampling"] > 50 * times[0]["sampling"]
    assert times[1]["evaluations"] > 50 * times[0]["evaluations"]
