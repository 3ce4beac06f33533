"""`holdfast.reporting.voice`: the section on demonstrations, from a summary alone."""

from typing import Any

import pytest

from holdfast.measure.demonstration_distance import DemonstrationDistance, PromptVoices, ScoredText
from holdfast.reporting import render_report
from holdfast.reporting.view import SummaryView
from holdfast.reporting.voice import voice_section
from holdfast.summary.models.run import RunSummary
from report_page import HOSTILE, Page
from summary_factory import make_run

REWRITING = {
    "stage": 1,
    "task": "tools",
    "examples": 20,
    "outcomes": {"rewritten": 15, "same words": 2, "wrong": 3},
    "completions": 24,
    "generated_tokens": 240,
    "seconds": 1.5,
}


def summary() -> dict[str, Any]:
    said = [
        PromptVoices(str(i), ScoredText(f"well {HOSTILE}", 5, 15.0 + i, 2), ScoredText("red", 2, 1.0, 0), "red", 3)
        for i in range(12)
    ]
    distance = DemonstrationDistance.of("tools", said).as_json()
    return make_run() | {"demonstrations": [distance], "rewriting": [REWRITING]}


@pytest.fixture(autouse=True)
def _small_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.reporting.page._plotly", lambda: "")


def test_the_fields_of_a_summary_describe_both() -> None:
    RunSummary.model_validate(summary())


def test_a_summary_without_them_is_read_too() -> None:
    """Summaries of before have neither, and the report no such section."""
    plain = {key: value for key, value in make_run().items() if key not in ("demonstrations", "rewriting")}
    assert RunSummary.model_validate(plain).rewriting == []
    assert "voice" not in Page(render_report(plain)).ids()


def test_the_section_has_the_sentence_and_the_numbers() -> None:
    made = summary()
    page = Page(render_report(made))
    assert "voice" in page.ids()
    assert made["demonstrations"][0]["sentence"] in page.text
    assert "17 of 20" in page.text
    assert "3 wrong" in page.text
    assert len(page.scripts) == len(Page(render_report(make_run())).scripts)  # a phrase injects nothing


def test_the_cells_are_those_of_the_summary() -> None:
    (task, cells, phrases, _), *_ = voice_section(SummaryView(summary()))["distances"]
    assert task == "tools"
    values = [value for value, _ in cells]
    assert values[0] == "3.600"  # 4.1 of the demonstrations, 0.5 of the samples
    assert values[2:] == ["40.0%", "5.0"]
    assert phrases
