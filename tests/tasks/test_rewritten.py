"""`holdfast.tasks.rewritten`: records of every form get another demonstration, and nothing else of them changes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.config.settings import TaskSettings
from holdfast.errors import ConfigError, DataError
from holdfast.tasks.rewritten import as_json_lines, training_data

FORMS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "text": ([{"prompt": "Who?", "completion": "Me.", "answer": "Me."}, {"prompt": "Why?", "completion": "So."}], {}),
    "own columns": (
        [{"q": "Who?", "a": "Me.", "b": "Me."}, {"q": "Why?", "a": "So.", "b": "?"}],
        {"columns": {"prompt": "q", "completion": "a"}},
    ),
    "an id": (
        [{"id": 7, "prompt": "Who?", "completion": "Me."}, {"id": "x", "prompt": "Why?", "completion": "So."}],
        {},
    ),
    "turns": (
        [
            {
                "prompt": [{"role": "user", "content": "Who?"}],
                "completion": [{"role": "assistant", "content": "Me."}],
            },
            {"prompt": [{"role": "user", "content": "Why?"}], "completion": [{"role": "assistant", "content": "So."}]},
        ],
        {},
    ),
    "messages": (
        [
            {"messages": [{"role": "user", "content": "Me."}, {"role": "assistant", "content": "Me."}]},
            {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]},
        ],
        {},
    ),
    "sharegpt": (
        [
            {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}]},
            {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        ],
        {},
    ),
    "alpaca": (
        [
            {"instruction": "Who?", "input": "", "output": "Me."},
            {"instruction": "Why?", "input": "Say.", "output": "So."},
        ],
        {},
    ),
    "a template": (
        [{"title": "Who?", "completion": "Me."}, {"title": "Why?", "completion": "So."}],
        {"prompt_template": "Tell: {title}"},
    ),
    "thoughts apart": (
        [
            {"prompt": "Who?", "completion": "Me.", "reasoning_content": "Hm."},
            {"prompt": "Why?", "completion": "So.", "reasoning_content": "Oh."},
        ],
        {},
    ),
    "privileged context": (
        [
            {"prompt": "Who?", "completion": "Me.", "privileged_context": "It is me."},
            {"prompt": "Why?", "completion": "So.", "privileged_context": "So."},
        ],
        {},
    ),
}


def write(folder: Path, records: list[dict[str, Any]], more: dict[str, Any]) -> TaskSettings:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    return TaskSettings.model_validate({"name": "data", "train": str(path), **more})


@pytest.mark.parametrize("name", FORMS)
def test_a_record_of_every_form_gets_another_demonstration(name: str, tmp_path: Path) -> None:
    records, more = FORMS[name]
    data = training_data(write(tmp_path, records, more))
    first, second = data.examples
    changed = data.with_demonstrations({first.id: "It is I, they say."})
    out = tmp_path / "out"
    out.mkdir()
    again = training_data(write(out, [dict(each) for each in changed], more)).examples
    assert again[0] == replace(first, demonstration="It is I, they say.")
    assert again[1] == second
    assert changed[1] == records[1]
    assert changed[0].keys() == records[0].keys()


@given(text=st.text(min_size=1).filter(lambda text: text.strip() and "think>" not in text))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_any_text_is_read_as_it_was_written(text: str, tmp_path: Path) -> None:
    records, more = FORMS["text"]
    data = training_data(write(tmp_path, records, more))
    (changed, _) = data.with_demonstrations({data.examples[0].id: text})
    (line, _) = as_json_lines([changed, {}]).split("\n", 1)
    assert json.loads(line)["completion"] == text


def test_records_that_are_dropped_as_faulty_do_not_shift_the_others(tmp_path: Path) -> None:
    records = [{"prompt": "Who?", "completion": "Me."}, {"prompt": ""}, {"prompt": "Why?", "completion": "So."}]
    with pytest.warns(UserWarning, match="1 of 3"):
        data = training_data(write(tmp_path, records, {"bad_records": "drop"}))
    last = data.examples[-1]
    changed = data.with_demonstrations({last.id: "Therefore."})
    assert [each.get("completion") for each in changed] == ["Me.", "Therefore."]


def test_what_cannot_be_written_back_is_refused(tmp_path: Path) -> None:
    """The prompt's template also writes the answer, so another answer would be another prompt."""
    records = [{"completion": "Me.", "n": 1}, {"completion": "So.", "n": 2}]
    data = training_data(write(tmp_path, records, {"prompt_template": "Why {completion}"}))
    with pytest.raises(DataError, match="no place for another demonstration"):
        data.with_demonstrations({data.examples[0].id: "You."})


@pytest.mark.parametrize("source", [{"lab": "facts"}, {"train": "x.json", "reader": "toolalpaca"}])
def test_tasks_without_records_of_their_own_are_sent_to_the_recipe(source: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="rewrite_sft"):
        training_data(TaskSettings.model_validate({"name": "t", **source}))


def test_what_json_does_not_know_becomes_text() -> None:
    import datetime

    assert json.loads(as_json_lines([{"day": datetime.date(2026, 1, 2), "text": "ä"}])) == {
        "day": "2026-01-02",
        "text": "ä",
    }
