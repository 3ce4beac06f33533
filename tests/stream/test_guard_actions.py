"""`holdfast.stream.guard_actions`: a run carries out what rules decide, and after a roll-back something differs."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

import holdfast
from guarded_runs import STEPS, guard_config, guarded_config, read_lines
from holdfast.config.load import load_config, parse_config
from holdfast.config.settings import ModelSettings, RunConfig
from holdfast.errors import ConfigError, RunError
from holdfast.guard import GuardSettings
from holdfast.model.load import load_policy
from holdfast.recipes.parts.teacher import TeacherSpec
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.guard_actions import RunGuard
from holdfast.summary.schema import summary_schema
from holdfast.train.step import StageTrainer
from holdfast.train.teacher import Teacher
from kills import kill_again_and_again
from processes import start
from small_runs import write_config


@pytest.mark.slow
def test_it_goes_back_and_on_in_another_way(tmp_path: Path) -> None:
    run = tmp_path / "run"
    start("run", guarded_config(tmp_path), "-o", run).finish()
    first = read_lines(run / "decisions.jsonl")[0]
    assert (first["rule"], first["step"]) == ("kl_budget", 6)
    assert first["outcome"].startswith("back to step 2 of stage 1; the teacher is a copy of the student; ")
    undone = [
        d["record"] for d in read_lines(run / "discarded.jsonl") if (d["decision"], d["log"]) == (0, "metrics.jsonl")
    ]
    assert [m["step"] for m in undone] == [3, 4, 5, 6]
    kept = [m for m in read_lines(run / "metrics.jsonl") if m["stage"] == 1]
    assert [m["step"] for m in kept] == list(range(1, len(kept) + 1))
    # The student is the same, so its samples and rewards are too. What it learns from differs.
    for key in ("reward", "completion_length", "entropy", "distinct_2"):
        assert kept[2][key] == undone[0][key]
    assert kept[2]["learning_rate"] == undone[0]["learning_rate"] / 2 ** len(
        [d for d in read_lines(run / "decisions.jsonl") if d["stage"] == 1]
    )
    summary = json.loads((run / "summary.json").read_text())
    total = len(read_lines(run / "metrics.jsonl")) + sum(
        d["log"] == "metrics.jsonl" for d in read_lines(run / "discarded.jsonl")
    )
    assert summary["budget"]["optimizer_steps"] == total > 2 * STEPS
    assert summary["discarded"][0]["from_step"] == 3
    assert summary["discarded"][0]["to_step"] == 6
    assert summary["guard"]["mode"] == "act"
    assert any("undid" in sentence for sentence in summary["verdict"])


@pytest.mark.processes
def test_two_processes_decide_as_one(tmp_path: Path) -> None:
    config = guarded_config(tmp_path)
    start("run", config, "-o", tmp_path / "one").finish()
    start("run", config, "-o", tmp_path / "two", size=2).finish()
    one, two = ([{**d, "saw": None} for d in read_lines(tmp_path / run / "decisions.jsonl")] for run in ("one", "two"))
    assert one == two


@pytest.mark.slow
def test_after_its_last_roll_back_a_stage_ends_where_it_was_healthy(tmp_path: Path) -> None:
    config = guard_config(tmp_path, 1e-12, most=1)
    start("run", config, "-o", tmp_path / "run").finish()
    stages = [d["stage"] for d in read_lines(tmp_path / "run" / "decisions.jsonl")]
    assert stages == [1, 1, 2, 2]  # each stage goes back once and resumes; the second roll-back ends it
    assert read_lines(tmp_path / "run" / "metrics.jsonl") == []
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "complete"
    before, after = summary["evaluations"][0]["scores"], summary["evaluations"][2]["scores"]
    assert {n: s["mean"] for n, s in before.items()} == {n: s["mean"] for n, s in after.items()}


@pytest.mark.slow
def test_a_run_that_is_stopped_keeps_its_model_and_says_so(tmp_path: Path) -> None:
    run = tmp_path / "run"
    start("run", guard_config(tmp_path, 1e-12, action=["stop"]), "-o", run).finish()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "stopped"
    assert [e["stage"] for e in summary["evaluations"]] == [0, 1]
    assert (run / "models" / "stage-1").is_dir()
    assert len(read_lines(run / "metrics.jsonl")) == 2  # the first probe is after two steps
    left = {path.name: path.read_bytes() for path in run.glob("*.jsonl")}
    start("resume", run).finish()
    assert {path.name: path.read_bytes() for path in run.glob("*.jsonl")} == left


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["warn", "act"])
def test_a_gradient_that_is_not_finite_never_moves_the_weights(tmp_path: Path, mode: str) -> None:
    config = load_config(write_config(tmp_path, "grpo", guard={"mode": mode, "window": 2}), RunConfig)
    norm, calls = StageTrainer._clipped_norm, iter(range(1000))

    def with_infinite_norm(self: StageTrainer) -> float:
        value = norm(self)
        return math.inf if next(calls) == 3 else value

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageTrainer, "_clipped_norm", with_infinite_norm)
        if mode == "warn":
            with pytest.raises(RunError, match="the gradient's norm is inf"):
                holdfast.run(config, tmp_path / "run")
            (decision,) = read_lines(tmp_path / "run" / "decisions.jsonl")
            assert (decision["rule"], decision["actions"]) == ("not_finite", ["warn"])
            assert decision["outcome"].startswith("the run ends: the gradient's norm is inf")
            assert read_lines(tmp_path / "run" / "metrics.jsonl")[-1]["grad_norm"] is None
            return
        summary = holdfast.run(config, tmp_path / "run")
    assert summary["status"] == "complete"
    assert [d["rule"] for d in summary["decisions"]] == ["not_finite"]
    assert summary["decisions"][0]["saw"]["grad_norm"] is None
    rates = [m["learning_rate"] for m in read_lines(tmp_path / "run" / "metrics.jsonl") if m["stage"] == 1]
    assert len(rates) == 5
    second = [m["learning_rate"] for m in read_lines(tmp_path / "run" / "metrics.jsonl") if m["stage"] == 2]
    assert [a / b for a, b in zip(rates, second, strict=True)] == [0.5] * 5  # the lower rate ends with the stage


@pytest.mark.slow
def test_a_failed_step_moves_no_teacher(tmp_path: Path) -> None:
    rules = {"not_finite": {"action": ["lower_rate"]}}
    recipe = {"name": "sdpo", "num_generations": 3, "ema_rate": 0.5}
    guard = {"mode": "act", "window": 2, "rules": rules}
    config = load_config(write_config(tmp_path, "sdpo", recipe=recipe, guard=guard), RunConfig)
    norm, moved, calls = StageTrainer._clipped_norm, [], iter(range(1000))
    after = Teacher.after_rollout_batch

    def with_infinite_norm(self: StageTrainer) -> float:
        value = norm(self)
        return math.inf if next(calls) == 1 else value

    def noted(self: Teacher, measured: Any) -> None:
        moved.append(measured)
        after(self, measured)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageTrainer, "_clipped_norm", with_infinite_norm)
        patch.setattr(Teacher, "after_rollout_batch", noted)
        summary = holdfast.run(config, tmp_path / "run")
    assert [d["outcome"] for d in summary["decisions"]] == ["the learning rate is 0.5 times the configured rate"]
    assert len(moved) == len(read_lines(tmp_path / "run" / "metrics.jsonl")) - 1


def test_what_is_masked_already_is_nothing_new(tmp_path: Path) -> None:
    guard = RunGuard(GuardSettings(mode="act"), RunDirectory(tmp_path), None, eos_ids=[2])
    plain = [[10 + i, 40 + i, 70 + i] for i in range(24)]
    guard.completions.first, guard.completions.latest = plain, [[[7, 7, 8, *ids, 2, 2] for ids in plain]]
    first = guard.apply(["mask_tokens"], [], rolled_back=True)
    assert "carry no loss" in first[0]
    assert {unit for ngram in guard.changes.masked for unit in ngram} == {7}  # none repeats 8; 2 ends a completion
    assert guard.apply(["mask_tokens"], [], rolled_back=True) == ["the learning rate is 0.5 times the configured rate"]


def test_where_nothing_else_would_change_a_roll_back_lowers_the_rate(tmp_path: Path) -> None:
    guard = RunGuard(GuardSettings(mode="act"), RunDirectory(tmp_path), None)
    assert guard.apply(["roll_back", "freeze_teacher"], [], rolled_back=True) == [
        "the learning rate is 0.5 times the configured rate"
    ]
    assert guard.apply(["freeze_teacher"], [], rolled_back=False) == []
    assert guard.changes.rate_factor == 0.5


def test_a_teacher_that_does_not_teach_yet_is_frozen_later(tmp_path: Path, tiny_model: Path) -> None:
    """Freezing it changes nothing yet. A teacher with a single refresh cannot be frozen at all."""
    policy = load_policy(ModelSettings(path=str(tiny_model)))

    def applied(batches: int, every: int) -> list[str]:
        teacher = Teacher(TeacherSpec(kind="periodic", first=3, every=every), policy, None)
        for _ in range(batches):
            teacher.after_rollout_batch({})
        guard = RunGuard(GuardSettings(mode="act"), RunDirectory(tmp_path), teacher)
        return guard.apply(["roll_back", "freeze_teacher"], [], rolled_back=True)

    rate = "the learning rate is 0.5 times the configured rate"
    assert applied(2, 1) == [rate, "the teacher is frozen after its first refresh"]
    assert applied(3, 1) == ["the teacher is frozen"]
    assert applied(2, 0) == applied(3, 0) == [rate]


def test_a_mistake_in_the_guards_settings_is_one_line() -> None:
    data = {"tasks": ["lab:facts"], "recipe": "sdft"}
    assert parse_config({**data, "guard": {"mode": False}}, RunConfig).guard.mode == "off"
    for guard, expected in (
        ({"mode": "acts"}, "guard.mode: 'acts' is no value of it; write 'warn', 'act' or 'off'"),
        ({"rules": {"repetitions": {}}}, "guard.rules.repetitions: unknown key; did you mean 'repetition'?"),
        ({"rules": {"repetition": {"action": ["refresh_teacher"]}}}, "add roll_back"),
    ):
        with pytest.raises(ConfigError) as error:
            parse_config({**data, "guard": guard}, RunConfig)
        assert expected in str(error.value)
    assert yaml.safe_load("mode: off") == {"mode": False}
    assert "decisions" in summary_schema()["$defs"]["RunSummary"]["properties"]


LAB_RUN = {
    "name": "falls",
    "model": {"path": "lab"},
    "tasks": ["lab:facts", "lab:tools"],
    "suites": ["lab:old-facts"],
    "recipe": "sft",
    "train": {"steps": 6, "prompts_per_step": 4, "learning_rate": 1e-2}
    | {"max_prompt_length": 200, "max_completion_length": 56},
    "eval": {"max_items": 32, "kl_items": 0, "samples": 0, "probe_steps": 0},
}
"""Without probes. The learning rate is far too high, so that the suite falls in the first stage."""


@pytest.mark.slow
@pytest.mark.parametrize("action", ["roll_back", "stop"])
def test_the_evaluation_at_a_stages_end_feeds_the_guard(tmp_path: Path, action: str) -> None:
    """Without probes a suite once fell from 75 points to 0, and no rule had seen anything."""
    guard = {"mode": "act", "rules": {"retention": {"action": [action]}}}
    config = parse_config(LAB_RUN | {"guard": guard}, RunConfig, where="test")
    summary = holdfast.run(config, tmp_path / "run")
    decisions = [d for d in read_lines(tmp_path / "run" / "decisions.jsonl") if d["rule"] == "retention"]
    assert [(d["stage"], d["step"], d["global_step"]) for d in decisions][:1] == [(1, 6, 6)]
    before, after = (summary["evaluations"][stage]["scores"]["old-facts"]["mean"] for stage in (0, 1))
    assert decisions[0]["saw"] == {"base": before, "score": after}
    assert {each["rule"]: each["status"] for each in summary["guard_rules"]}["retention"] == "fired"
    assert any(s.startswith("Fell, by a paired test") and "old-facts" in s for s in summary["verdict"])
    if action == "stop":
        assert summary["status"] == "stopped"
        assert [e["stage"] for e in summary["evaluations"]] == [0, 1]
        assert decisions[0]["outcome"] == "the run ends here"
    else:
        assert summary["status"] == "complete"
        assert decisions[0]["actions"] == ["warn"]
        assert decisions[0]["outcome"] == "the stage is over, so nothing is undone"


@pytest.mark.processes
@pytest.mark.torture
def test_decisions_at_stage_ends_do_not_depend_on_interruptions(tmp_path: Path) -> None:
    rule = {"budget": 1e-12, "action": ["warn"]}
    config = write_config(
        tmp_path, "sdpo", guard={"mode": "act", "window": 2, "rules": {"kl_budget": rule}},
        eval={"max_items": 3, "kl_items": 2, "samples": 1, "probe_steps": 0},
    )  # fmt: skip
    start("run", config, "-o", tmp_path / "whole").finish()
    assert [d["stage"] for d in read_lines(tmp_path / "whole" / "decisions.jsonl")] == [1, 2]
    kill_again_and_again(tmp_path, config, "a run whose guard decides at the ends of stages")
