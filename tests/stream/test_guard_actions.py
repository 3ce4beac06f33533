"""Decisions that a run carries out: back to a healthy checkpoint and on in another way, whatever interrupts it."""

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
from holdfast.data.example import Example
from holdfast.data.rows import Row
from holdfast.errors import ConfigError, RunError
from holdfast.guard import GuardSettings
from holdfast.model.load import load_policy
from holdfast.recipes.parts.teacher import TeacherSpec
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.guard_actions import RunGuard
from holdfast.stream.healthy_checkpoints import HealthyCheckpoints
from holdfast.summary.schema import summary_schema
from holdfast.train.step import StageTrainer
from holdfast.train.teacher import Teacher
from kills import kill_again_and_again
from processes import start
from small_runs import assert_same, write_config


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
    # The student is as it was: it says and earns the same. What it learns from is not.
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


@pytest.mark.slow
def test_a_guarded_run_killed_many_times_ends_as_one_never_interrupted(tmp_path: Path) -> None:
    config = guarded_config(tmp_path)
    start("run", config, "-o", tmp_path / "whole").finish()
    run = kill_again_and_again(tmp_path, config, kills=10, seed="guarded")
    assert_same(tmp_path / "whole", run)


@pytest.mark.slow
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
    assert stages == [1, 1, 2, 2]  # each goes back once and on, and the second time ends there
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

    def spoilt(self: StageTrainer) -> float:
        found = norm(self)
        return math.inf if next(calls) == 3 else found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageTrainer, "_clipped_norm", spoilt)
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
    assert [a / b for a, b in zip(rates, second, strict=True)] == [0.5] * 5  # only this stage goes slower


@pytest.mark.slow
def test_a_step_that_took_nothing_moves_no_teacher(tmp_path: Path) -> None:
    rules = {"not_finite": {"action": ["lower_rate"]}}
    recipe = {"name": "sdpo", "num_generations": 3, "ema_rate": 0.5}
    guard = {"mode": "act", "window": 2, "rules": rules}
    config = load_config(write_config(tmp_path, "sdpo", recipe=recipe, guard=guard), RunConfig)
    norm, moved, calls = StageTrainer._clipped_norm, [], iter(range(1000))
    after = Teacher.after_rollout_batch

    def spoilt(self: StageTrainer) -> float:
        found = norm(self)
        return math.inf if next(calls) == 1 else found

    def noted(self: Teacher, measured: Any) -> None:
        moved.append(measured)
        after(self, measured)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageTrainer, "_clipped_norm", spoilt)
        patch.setattr(Teacher, "after_rollout_batch", noted)
        summary = holdfast.run(config, tmp_path / "run")
    assert [d["outcome"] for d in summary["decisions"]] == ["the learning rate is 0.5 times the configured rate"]
    assert len(moved) == len(read_lines(tmp_path / "run" / "metrics.jsonl")) - 1


def _row(ids: list[int], weights: list[float] | None = None) -> Row:
    return Row(Example("a", ()), [1], ids, token_weights=weights)


def test_artifacts_are_what_grew_and_what_demonstrations_do_not_say(tmp_path: Path) -> None:
    guard = RunGuard(GuardSettings(mode="act"), RunDirectory(tmp_path), None)
    plain = [[10 + i, 40 + i, 70 + i] for i in range(24)]
    guard.completions.first = plain
    guard.completions.latest = [[[7, 7, 8, *ids] for ids in plain]]
    demonstrations = [[8, *ids] for ids in plain]
    did = guard.apply(["mask_tokens"], demonstrations, rolled_back=False)
    assert did == [f"{len(guard.changes.masked)} artifact n-grams carry no loss"]
    masked = {unit for ngram in guard.changes.masked for unit in ngram}
    assert 7 in masked
    assert (8,) not in guard.changes.masked
    row = _row([7, 7, 8, 50], [1.0, 2.0, 3.0, 4.0])
    guard.mask([row])
    assert row.token_weights is not None
    assert row.token_weights[0] == row.token_weights[1] == 0
    assert row.token_weights[3] == 4
    untouched = _row([50, 51])
    guard.mask([untouched])
    assert untouched.token_weights is None


def test_what_is_masked_already_is_nothing_new(tmp_path: Path) -> None:
    guard = RunGuard(GuardSettings(mode="act"), RunDirectory(tmp_path), None, eos_ids=[2])
    plain = [[10 + i, 40 + i, 70 + i] for i in range(24)]
    guard.completions.first, guard.completions.latest = plain, [[[7, 7, 8, *ids, 2, 2] for ids in plain]]
    first = guard.apply(["mask_tokens"], [], rolled_back=True)
    assert "carry no loss" in first[0]
    assert {unit for ngram in guard.changes.masked for unit in ngram} == {7}  # 8 is not repeated, and 2 is an end
    assert guard.apply(["mask_tokens"], [], rolled_back=True) == ["the learning rate is 0.5 times the configured rate"]


def test_only_what_the_model_wrote_can_be_an_artifact(tmp_path: Path) -> None:
    guard = RunGuard(GuardSettings(mode="act"), RunDirectory(tmp_path), None)
    examples = [Example(name, ()) for name in "ab"]
    rows = [Row(examples[0], [1], [5, 6], sampled_logprobs=[0.0, 0.0])] * 3
    rows += [Row(examples[1], [1], [7, 8, 9], sampled_logprobs=[0.0] * 3, tool_mask=[1, 0, 1])]
    rows += [Row(examples[1], [1], [3, 3])]  # a demonstration
    earlier = Example("an earlier task's", ())
    rows += [Row(earlier, [1], [4, 4], sampled_logprobs=[0.0, 0.0], replayed=True)]
    guard.completions.add(rows)
    assert guard.completions.latest == [[[5, 6], [7, 9]]]


def test_where_nothing_else_would_change_a_roll_back_lowers_the_rate(tmp_path: Path) -> None:
    guard = RunGuard(GuardSettings(mode="act"), RunDirectory(tmp_path), None)
    assert guard.apply(["roll_back", "freeze_teacher"], [], rolled_back=True) == [
        "the learning rate is 0.5 times the configured rate"
    ]
    assert guard.apply(["freeze_teacher"], [], rolled_back=False) == []
    assert guard.changes.rate_factor == 0.5


def test_a_teacher_that_does_not_teach_yet_stands_still_later(tmp_path: Path, tiny_model: Path) -> None:
    """Which changes nothing for now; and one that is taken once has nothing that could be held back."""
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


def test_a_checkpoint_is_healthy_only_after_calm_steps_with_a_reward_as_good_as_any() -> None:
    healthy = HealthyCheckpoints(0)
    healthy.candidates = {10: 10}
    healthy.see(17, True, (0.5, 0.02), 8)
    assert healthy.number == 0
    healthy.see(18, True, (0.5, 0.02), 8)
    assert healthy.number == 10
    healthy.candidates = {20: 20}
    healthy.see(28, True, (0.45, 0.02), 8)  # worse by more than its error
    assert (healthy.number, healthy.candidates) == (10, {})
    healthy.candidates = {30: 30}
    healthy.see(31, False, (0.6, 0.02), 8)
    assert healthy.candidates == {}


def test_a_mistake_in_the_guards_settings_is_one_line() -> None:
    data = {"tasks": ["lab:facts"], "recipe": "sdft"}
    assert parse_config({**data, "guard": {"mode": False}}, RunConfig).guard.mode == "off"
    for guard, said in (
        ({"mode": "acts"}, "guard.mode: Input should be 'warn', 'act' or 'off'"),
        ({"rules": {"repetitions": {}}}, "guard.rules.repetitions: unknown key; did you mean 'repetition'?"),
        ({"rules": {"repetition": {"action": ["refresh_teacher"]}}}, "add roll_back"),
    ):
        with pytest.raises(ConfigError) as error:
            parse_config({**data, "guard": guard}, RunConfig)
        assert said in str(error.value)
    assert yaml.safe_load("mode: off") == {"mode": False}
    assert "decisions" in summary_schema()["$defs"]["RunSummary"]["properties"]
