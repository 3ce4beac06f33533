"""`holdfast.guard.rules`: each rule fires on the collapse it is named for, and none on a healthy run with any noise."""

import math
import random
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest

from holdfast.guard import RULES, Guard, GuardSettings
from holdfast.guard.messages import NEEDS
from holdfast.guard.series import Series


def _run(steps: int = 24, **numbers: Any) -> list[dict[str, Any]]:
    """A healthy run of one stage. Some metrics may be given as functions of progress from 0 to 1."""
    healthy = {
        "loss": lambda x: 0.5 - 0.4 * x,
        "grad_norm": lambda x: 1.0,
        "reward": lambda x: 0.2 + 0.6 * x,
        "kl_teacher": lambda x: 0.8 - 0.6 * x,
        "entropy": lambda x: 0.5 - 0.48 * x,
        "distinct_2": lambda x: 0.6 - 0.4 * x,
        "repetition": lambda x: 0.02,
        "truncated_fraction": lambda x: 0.0,
        "active_rows": lambda x: 8,
        "teacher_share": lambda x: 1 - 0.8 * x,
        "is_ratio_mean": lambda x: 1.0,
    }
    made = []
    for step in range(steps):
        values = {k: f(step / (steps - 1)) for k, f in {**healthy, **numbers}.items()}
        made.append({"stage": 1, "step": step + 1, "task": "t", **values})
    return made


def _guard(mode: str = "warn", **rules: Any) -> Guard:
    return Guard(GuardSettings.model_validate({"mode": mode, "rules": rules}))


def _fired(records: list[dict[str, Any]], guard: Guard | None = None) -> list[str]:
    guard = guard or Guard()
    return [decision.rule for record in records for decision in guard.see(record)]


def test_a_healthy_run_sets_off_nothing() -> None:
    assert _fired(_run()) == []


@pytest.mark.parametrize("pace", [1.5, 2.0, 3.0, 5.0])
def test_fast_learning_sets_off_nothing(pace: float) -> None:
    """Entropy and diversity fall while a task is learned within a dozen steps. It is no collapse: the reward rises."""
    made = []
    for step in range(1, 41):
        left = math.exp(-step / pace)
        numbers = {
            "reward": 0.9 - 0.7 * left,
            "entropy": 0.05 + left,
            "distinct_2": 0.1 + 0.6 * left,
            "kl_teacher": 0.05 + left,
        }
        made.append({"stage": 1, "step": step, "task": "t", "loss": left, "grad_norm": 1.0, **numbers})
    assert _fired(made) == []
    assert _fired(made, _guard("act")) == []


def _falling(x: float) -> float:
    return 0.7 - 0.65 * x


COLLAPSES: dict[str, dict[str, Any]] = {
    "repetition": {"repetition": lambda x: 0.02 + 0.9 * x},
    "truncation": {"truncated_fraction": lambda x: x},
    "agreement_without_success": {"reward": lambda x: 0.7 - 0.45 * x, "entropy": lambda x: 0.5},
    "reward_collapse": {"reward": _falling, "kl_teacher": lambda x: 0.8, "entropy": lambda x: 0.5},
    "entropy_collapse": {"reward": lambda x: 0.7 - 0.32 * x, "kl_teacher": lambda x: 0.8},
    "distinct_collapse": {
        "reward": lambda x: None,
        "distinct_2": lambda x: 0.6 - 0.5 * x,
        "kl_teacher": lambda x: 0.8,
        "entropy": lambda x: 0.5 - 0.42 * x,
    },
    "silent_stall": {"active_rows": lambda x: 8 if x < 0.3 else 0},
    "stale_sampler": {"is_ratio_mean": lambda x: 1.0 if x < 0.5 else 1e-7},
    "not_finite": {"grad_norm": lambda x: 1.0 if x < 0.5 else math.inf},
}
"""The metrics of a collapse for each rule that is asked after every step. All other metrics are healthy."""


@pytest.mark.parametrize("rule", COLLAPSES)
def test_each_rule_fires_once_on_its_own_collapse(rule: str) -> None:
    fired = _fired(_run(**COLLAPSES[rule]))
    assert fired.count(rule) == 1
    assert set(fired) <= {rule, "distinct_collapse", "entropy_collapse", "agreement_without_success", "reward_collapse"}


@pytest.mark.parametrize("rule", COLLAPSES)
def test_a_rule_without_actions_is_left_out(rule: str) -> None:
    assert rule not in _fired(_run(**COLLAPSES[rule]), _guard(**{rule: {"action": []}}))


def test_rules_on_probes() -> None:
    assert set(COLLAPSES) | {"kl_budget", "retention"} == set(RULES)
    settings = GuardSettings.model_validate({"rules": {"kl_budget": {"budget": 0.1}}})
    guard = Guard(settings, reference={"old": 0.8}, probe_items=400)
    assert guard.see_probe({"stage": 1, "step": 5, "scores": {"old": 0.71, "new": 0.0}, "kl_to_base": 0.09}) == []
    (decision,) = guard.see_probe({"stage": 1, "step": 10, "scores": {"old": 0.69, "new": 0.0}, "kl_to_base": 0.09})
    assert (decision.rule, decision.values) == ("retention", {"base": 0.8, "score": 0.69})
    (decision,) = guard.see_probe({"stage": 1, "step": 15, "scores": {"old": 0.6}, "kl_to_base": 0.11})
    assert (decision.rule, decision.actions) == ("kl_budget", ("warn",))


def test_a_small_probe_must_fall_by_more_than_its_items_explain() -> None:
    scores = {"stage": 1, "step": 5, "scores": {"old": 0.6}}
    assert Guard(reference={"old": 0.8}, probe_items=16).see_probe(scores) == []
    assert len(Guard(reference={"old": 0.8}, probe_items=200).see_probe(scores)) == 1
    of_each = Guard(reference={"old": 0.8, "few": 0.8}, probe_items={"old": 200, "few": 8})
    (decision,) = of_each.see_probe({"stage": 1, "step": 5, "scores": {"old": 0.6, "few": 0.5}})
    assert decision.message.startswith("old scores 60.0%, down from 80.0%")


def test_near_the_ceiling_two_items_are_no_loss() -> None:
    assert Guard(reference={"old": 1.0}, probe_items=16).see_probe({"step": 5, "scores": {"old": 14 / 16}}) == []
    assert len(Guard(reference={"old": 1.0}, probe_items=128).see_probe({"step": 5, "scores": {"old": 0.8}})) == 1


def test_noise_in_scores_is_no_loss() -> None:
    """Six unchanged suites of 64 items, probed twenty times with new items each time."""
    rng = random.Random(0)
    for level in (0.5, 0.8, 0.95, 1.0):
        before = {f"s{i}": sum(rng.random() < level for _ in range(64)) / 64 for i in range(6)}
        guard = Guard(reference=before, probe_items=64)
        for step in range(20):
            scores = {name: sum(rng.random() < level for _ in range(64)) / 64 for name in before}
            assert guard.see_probe({"stage": 1, "step": step, "scores": scores}) == [], level


def test_a_probe_is_judged_once_and_a_warning_comes_once() -> None:
    rules = {"kl_budget": {"budget": 0.1, "action": ["lower_rate"]}}
    guard = _guard("act", **rules)
    assert len(guard.see_probe({"stage": 1, "step": 0, "kl_to_base": 0.2})) == 1
    assert _fired(_run(steps=60), guard) == []
    stalled = _run(steps=200, active_rows=lambda x: 0, reward=lambda x: 0.0)
    assert _fired(stalled, _guard("act")).count("silent_stall") == 1


def test_another_divergence_replaces_the_kl_to_the_teacher() -> None:
    numbers = {"reward": lambda x: 0.8 if x < 0.4 else 0.2, "kl_teacher": lambda x: None}
    fired = _fired(_run(**numbers, teacher_divergence=lambda x: 0.8 - 0.7 * x))
    assert "agreement_without_success" in fired


def test_the_first_probe_is_the_reference_where_none_is_given() -> None:
    guard = Guard()
    assert guard.see_probe({"step": 1, "scores": {"old": 0.8}}) == []
    assert [d.rule for d in guard.see_probe({"step": 2, "scores": {"old": 0.5}})] == ["retention"]


def test_noise_alone_sets_off_nothing() -> None:
    """Flat runs of 200 steps with the noise of 16 answers per step. Every step is a chance for a false alarm."""
    fired = []
    for seed in range(60):
        rng = random.Random(seed)
        p = rng.choice([0.15, 0.5, 0.85])
        records = [
            {
                "step": step + 1,
                "reward": sum(rng.random() < p for _ in range(16)) / 16,
                "kl_teacher": 0.2 * rng.lognormvariate(0, 0.5),
                "entropy": 0.3 * rng.lognormvariate(0, 0.5),
                "distinct_2": min(1.0, 0.4 * rng.lognormvariate(0, 0.3)),
                "repetition": max(0.0, rng.gauss(0.1, 0.08)),
                "truncated_fraction": sum(rng.random() < 0.2 for _ in range(16)) / 16,
                "is_ratio_mean": rng.lognormvariate(0, 0.1),
                "active_rows": 16 if rng.random() < 0.7 else 0,
            }
            for step in range(200)
        ]
        fired += _fired(records)
    assert fired == []


def test_a_solved_task_has_no_signal_and_is_no_stall() -> None:
    assert _fired(_run(reward=lambda x: 0.95, active_rows=lambda x: 0)) == []


def test_a_lost_teacher_is_a_stall_even_if_other_rows_have_a_signal() -> None:
    assert _fired(_run(teacher_share=lambda x: 0.5 if x < 0.3 else 0.0)) == ["silent_stall"]
    assert _fired(_run(teacher_share=lambda x: 0.0)) == []


def test_a_stage_is_compared_with_itself_alone() -> None:
    low, high = _run(repetition=lambda x: 0.0), _run(repetition=lambda x: 0.9)
    for record in high:
        record["stage"] = 2
    assert _fired([*low, *high]) == []


def test_a_guard_that_has_seen_the_logs_again_does_not_fire_again() -> None:
    records = _run(**COLLAPSES["repetition"])
    assert _fired(records) == ["repetition"]
    guard = Guard()
    guard.replay(records[:-1])
    assert guard.see(records[-1]) == []


def test_acting_it_may_fire_again_after_two_windows() -> None:
    records = _run(40, repetition=lambda x: 0.02 if x < 0.3 else 0.9)
    guard = _guard("act")
    steps = [d.step for record in records for d in guard.see(record)]
    assert len(steps) > 2
    assert all(later - earlier == 8 for earlier, later in pairwise(steps))


@pytest.mark.parametrize("every", [1, 10])
def test_two_windows_count_records_however_rarely_steps_are_logged(every: int) -> None:
    rules = {"repetition": {"action": ["lower_rate"]}}
    guard = Guard(GuardSettings.model_validate({"mode": "act", "window": 4, "rules": rules}))
    values = [0.02] * 10 + [0.7] * 20
    lines = [{"step": every * n, "repetition": value} for n, value in enumerate(values, 1)]
    fired = [n for n, line in enumerate(lines, 1) if guard.see(line)]
    assert fired == [fired[0], fired[0] + 8, fired[0] + 16]


def test_numbers_that_are_missing_set_off_nothing() -> None:
    guard = Guard()
    assert [guard.see({}) for _ in range(30)] == [[]] * 30
    assert [guard.see({"loss": None, "reward": None}) for _ in range(30)] == [[]] * 30


def test_steps_without_new_rollouts_are_no_gap() -> None:
    """Of several optimizer steps on one batch, only the first has a reward."""
    records = _run(60, **COLLAPSES["reward_collapse"])
    for record in records:
        if record["step"] % 3 != 1:
            record["reward"] = record["distinct_2"] = None
    assert "reward_collapse" in _fired(records)


def test_a_trend_does_not_change_the_error_of_a_window() -> None:
    rng = random.Random(0)
    series = Series(4)
    for step in range(4000):
        series.append(0.001 * step + rng.gauss(0, 0.1))
    assert series.error == pytest.approx(0.1 * math.sqrt(2 / 4), rel=0.05)


def test_off_needs_no_quotes_and_contradictions_are_refused() -> None:
    assert GuardSettings.model_validate({"mode": False}).mode == "off"
    with pytest.raises(ValueError, match="add roll_back"):
        GuardSettings.model_validate({"rules": {"repetition": {"action": ["refresh_teacher"]}}})
    with pytest.raises(ValueError, match="exclude each other"):
        GuardSettings.model_validate({"rules": {"repetition": {"action": ["stop", "end_stage"]}}})


def test_the_guard_needs_no_torch() -> None:
    code = "import sys; from holdfast.guard import Guard; Guard().see({'loss': 1.0}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def _stage_end(scores: dict[str, float], **record: Any) -> dict[str, Any]:
    return {"stage": 1, "step": 24, "task": "t", "scores": scores, **record}


def test_a_suite_that_falls_is_seen_at_the_stages_end_without_probes() -> None:
    """Without probes the report once said "no rule fired" beside a suite that fell from 75 points to 0."""
    guard = _guard("act")
    for record in _run():
        guard.see(record)
    base, items = {"old": 0.75, "same": 0.5}, {"old": 48, "same": 48}
    (decision,) = guard.see_stage_end(_stage_end({"old": 0.0, "same": 0.5}), base, items)
    assert (decision.rule, decision.step, decision.values) == ("retention", 24, {"base": 0.75, "score": 0.0})
    assert decision.message.startswith("old scores 0.0%, down from 75.0% before training")
    assert decision.actions == ("warn",)  # the stage is over: there is nothing to roll back
    assert guard.see_stage_end(_stage_end(base), base, items) == []
    stops = _guard("act", retention={"action": ["stop", "lower_rate"]})
    (decision,) = stops.see_stage_end(_stage_end({"old": 0.0}), base, items)
    assert decision.actions == ("stop",)


def test_a_suite_that_the_base_cannot_do_informs_no_rule() -> None:
    """It cannot fall, so a quiet rule would call well what nothing has shown."""
    guard = Guard()
    assert guard.see_stage_end(_stage_end({"old": 0.0}), {"old": 0.0}, {"old": 48}) == []
    assert "retention" not in guard.informed
    guard.see_stage_end(_stage_end({"old": 0.0, "able": 0.5}), {"old": 0.0, "able": 0.5}, {"old": 48, "able": 48})
    assert "retention" in guard.informed


def test_what_a_probe_has_reported_is_not_reported_again_at_the_stages_end() -> None:
    guard = Guard(reference={"old": 0.75}, probe_items=48)
    assert [d.rule for d in guard.see_probe(_stage_end({"old": 0.0}))] == ["retention"]
    assert guard.see_stage_end(_stage_end({"old": 0.0}), {"old": 0.75}, {"old": 48}) == []


def test_the_budget_of_kl_is_checked_at_the_stages_end() -> None:
    guard = _guard(kl_budget={"budget": 0.1})
    (decision,) = guard.see_stage_end(_stage_end({}, kl_to_base=0.3), {}, {})
    assert (decision.rule, decision.values["kl_to_base"]) == ("kl_budget", 0.3)


@pytest.mark.parametrize("rule", [name for name in RULES if name not in ("kl_budget", "retention")])
def test_a_rule_is_informed_if_and_only_if_it_had_its_data(rule: str) -> None:
    """A healthy run informs every rule about steps, one that logs nothing informs none."""
    healthy, silent, short = Guard(), Guard(), Guard()
    for record in _run():
        healthy.see(record)
        silent.see({"stage": 1, "step": record["step"]})
    for record in _run(2):
        short.see(record)
    assert rule in healthy.informed
    assert rule not in silent.informed
    assert (rule in short.informed) is (rule == "not_finite")


def test_a_reward_that_never_rose_was_measured() -> None:
    guard = Guard()
    for record in _run(reward=lambda x: 0.0):
        guard.see(record)
    assert "reward_collapse" in guard.informed


def test_every_rule_says_what_it_needs() -> None:
    assert set(NEEDS) == set(RULES)
