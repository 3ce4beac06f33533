"""Alarms fire on the collapse that they are named for, once, and not on a healthy run."""

from typing import Any

import pytest

from holdfast.guard.alarms import RULES, Alarms
from holdfast.rollouts.numbers import distinct, repetition


def _run(steps: int = 20, **numbers: Any) -> list[dict[str, Any]]:
    """A healthy run of one stage, with some numbers given as functions of progress from 0 to 1."""
    healthy = {
        "reward": lambda x: 0.2 + 0.6 * x,
        "kl_teacher": lambda x: 0.8 - 0.6 * x,
        "repetition": lambda x: 0.02,
        "truncated_fraction": lambda x: 0.0,
        "active_rows": lambda x: 8,
    }
    made = []
    for step in range(steps):
        values = {k: f(step / (steps - 1)) for k, f in {**healthy, **numbers}.items()}
        made.append({"stage": 1, "step": step + 1, "task": "t", **values})
    return made


def _fired(records: list[dict[str, Any]]) -> list[str]:
    alarms = Alarms()
    return [alarm.rule for record in records for alarm in alarms.see(record)]


def test_a_healthy_run_sets_off_nothing() -> None:
    assert _fired(_run()) == []


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [
        ("repetition", {"repetition": lambda x: 0.02 + 0.9 * x}),
        ("truncation", {"truncated_fraction": lambda x: x}),
        ("agreement_without_success", {"reward": lambda x: 0.7 - 0.6 * x}),
        ("silent_stall", {"active_rows": lambda x: 8 if x < 0.5 else 0}),
    ],
)
def test_each_rule_fires_once_on_its_own_collapse(rule: str, numbers: dict[str, Any]) -> None:
    assert _fired(_run(**numbers)) == [rule]
    assert rule in RULES


def test_a_stage_is_compared_with_itself_alone() -> None:
    low, high = _run(repetition=lambda x: 0.0), _run(repetition=lambda x: 0.9)
    for record in high:
        record["stage"] = 2
    assert _fired([*low, *high]) == []


def test_a_resumed_watch_does_not_fire_again() -> None:
    records = _run(repetition=lambda x: 0.02 + 0.9 * x)
    whole = Alarms()
    all_fired = [a for r in records for a in whole.see(r)]
    resumed = Alarms(records[:-1])
    assert len(all_fired) == 1
    assert resumed.see(records[-1]) == []


def test_numbers_that_are_missing_set_off_nothing() -> None:
    assert _fired(_run(reward=lambda x: None, kl_teacher=lambda x: None)) == []


def test_repetition_of_a_completion() -> None:
    assert repetition([1, 2, 3, 4, 5]) == 0
    assert repetition([7] * 11) == pytest.approx(0.9)
    assert repetition([1, 2, 1, 2, 1, 2]) == pytest.approx(1 - 2 / 5)
    assert repetition([7, 7]) == 0


def test_distinct_ngrams_of_a_batch() -> None:
    assert distinct([[1, 2, 3], [4, 5]]) == 1
    assert distinct([[1, 2, 1, 2], [1, 2]]) == pytest.approx(2 / 4)  # 12 21 12, and 12 in another completion
    assert distinct([[1, 1, 1]], n=1) == pytest.approx(1 / 3)
    assert distinct([[1], []]) is None
