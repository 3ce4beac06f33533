"""`holdfast.summary.guard_rules`: a rule that had no data is "not measured", wherever the guard is shown."""

from collections.abc import Sequence
from typing import Any

import pytest

from holdfast.cli.summary_text import summary_as_text
from holdfast.guard import RULES, GuardSettings
from holdfast.reporting import page, render_report
from holdfast.summary.read import check_summary
from report_page import Page
from summary_factory import TASKS, make_comparison, run_inputs, summary_of


@pytest.fixture(autouse=True)
def _small_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_plotly", lambda: "/* plotly */")


def summary(guard: dict[str, Any] | None = None, decisions: Sequence[Any] = (), **changes: Any) -> dict[str, Any]:
    inputs = run_inputs("sft", order=TASKS[:2], n=60, **changes)
    settings = GuardSettings.model_validate(guard or {})
    made = summary_of(**inputs, guard=settings.model_dump(mode="json"), decisions=decisions)
    check_summary(made)
    return made


def statuses(made: dict[str, Any]) -> dict[str, str]:
    return {each["rule"]: each["status"] for each in made["guard_rules"]}


def test_without_probes_the_stage_ends_inform_the_rule_about_retention() -> None:
    made = summary(probe_steps=0)
    assert list(statuses(made)) == list(RULES)
    assert statuses(made)["retention"] == "quiet"
    assert statuses(made)["reward_collapse"] == "quiet"


def test_rules_without_data_are_not_measured_and_that_is_said_everywhere() -> None:
    made = summary(suites=(), probe_steps=0)
    assert statuses(made)["retention"] == "not measured"
    assert statuses(made)["stale_sampler"] == "not measured"
    (said,) = [sentence for sentence in made["verdict"] if sentence.startswith("Not measured by the guard")]
    assert "retention" in said
    assert "stale_sampler" in said
    assert "reward_collapse" not in said
    (fired,) = [sentence for sentence in made["verdict"] if sentence.startswith("No rule of the guard fired")]
    assert "reward_collapse" in fired
    assert "retention" not in fired
    shown = Page(render_report(made)).text
    assert "No rule that had data fired in this run." in shown
    assert (
        "retention (needs a retention suite that the base can do, scored at a probe or at the end of a stage)" in shown
    )
    assert "Not measured by the guard" in " ".join(summary_as_text(made).split())


def test_off_and_unknown_are_neither_quiet_nor_unmeasured() -> None:
    off = summary({"mode": "off"})
    assert set(statuses(off).values()) == {"off"}
    assert not any("guard" in sentence for sentence in off["verdict"])
    own = statuses(summary({"rules": {"repetition": {"action": []}}}))
    assert own["repetition"] == "off"
    assert own["kl_budget"] == "off"
    assert statuses(summary({"rules": {"kl_budget": {"budget": 9.0}}}))["kl_budget"] == "quiet"
    assert make_comparison(("sft",), seeds=(0,), n=30)["runs"][0]["summary"]["guard_rules"] == []


def test_a_rule_that_fired_has_fired() -> None:
    decision = {
        "rule": "retention", "stage": 1, "step": 40, "task": TASKS[0], "severity": "critical", "actions": ["warn"],
        "saw": {"base": 0.75, "score": 0.0}, "message": "it fell", "outcome": "",
    }  # fmt: skip
    made = summary(decisions=[decision], probe_steps=0)
    assert statuses(made)["retention"] == "fired"
    assert any(sentence.startswith("The guard warned 1 time: retention.") for sentence in made["verdict"])
    assert not any("No rule of the guard" in sentence for sentence in made["verdict"])
