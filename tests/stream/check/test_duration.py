"""`holdfast.stream.check.duration`: timing changes nothing, and what is timed is counted as often as a run does it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import holdfast
from holdfast.config.load import load_config
from holdfast.config.settings import PassAtKSettings, RunConfig
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.check import duration
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


@pytest.mark.parametrize("recipe", ["sft", {"name": "grpo", "num_generations": 2, "num_iterations": 2}, "opr", "rad"])
def test_what_later_stages_replay_takes_time_too(
    tmp_path: Path, recipe: str | dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that counts the prompts that rows are collected for, and steps that take a second for each row."""
    monkeypatch.setattr(duration, "_step_seconds", lambda run, objective, rows: float(len(rows)))
    monkeypatch.setattr(duration, "_optimizer_seconds", lambda policy: 0.0)
    clock = [0.0]
    monkeypatch.setattr(duration.time, "perf_counter", lambda: clock[0])
    settings = {"name": recipe} if isinstance(recipe, str) else recipe
    path = write_config(tmp_path, "opr", recipe=settings | {"replay_ratio": 1.5})
    run = _prepared(path, tmp_path / "run")
    collect = run.collector.collect

    def counted(*arguments: Any) -> Any:
        made = collect(*arguments)
        clock[0] += len(made[0])
        return made

    monkeypatch.setattr(run.collector, "collect", counted)
    trials = [replace(try_batches(run, number, 2), seconds=[2.0]) for number in (1, 2)]
    estimate = time_estimate(run, trials)
    # Five steps on two prompts in each stage. The second replays three prompts besides in each batch.
    rows = 2 if isinstance(recipe, dict) else 1
    assert estimate["training"] == pytest.approx(rows * 5 * (2 + 5))
    batches = 5 / (2 if isinstance(recipe, dict) else 1)
    assert estimate["sampling"] == pytest.approx(batches * (2 + 5))


def test_samples_for_pass_at_k_are_counted(tmp_path: Path) -> None:
    run = _prepared(write_config(tmp_path, "grpo"), tmp_path / "run")
    trials = [try_batches(run, number, 2) for number in (1, 2)]
    plain = time_estimate(run, trials)["evaluations"]
    run.config = run.config.model_copy(
        update={"eval": run.config.eval.model_copy(update={"pass_at_k": PassAtKSettings(k=[500])})}
    )
    assert time_estimate(run, trials)["evaluations"] > 20 * plain
