"""`holdfast.tasks.readers.faults`: faulty records are counted, the first are named, and a setting decides."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from holdfast.config.settings import TaskSettings
from holdfast.errors import DataError
from holdfast.tasks.load import load_task

GOOD = [json.dumps({"prompt": f"q{n}", "completion": "a"}) for n in range(6)]
BAD = ['{"prompt": ""}', "{broken", '{"prompt": "<think>", "completion": "<think>x"}', "[1]", '{"prompt": 3}']


def load(file: Path, lines: list[str], **settings: Any):
    file.write_text("\n".join(lines), encoding="utf-8")
    return load_task(TaskSettings(name="t", train=str(file), **settings))


def test_faulty_records_are_counted_and_the_first_named(tmp_path: Path):
    file = tmp_path / "d.jsonl"
    with pytest.raises(DataError) as error:
        load(file, [*GOOD, *BAD])
    message = str(error.value)
    assert message.startswith(f"{file}: 5 of 11 records are faulty; the first: line 7: `prompt` is empty; line 8: ")
    assert "line 9: `completion` opens its thoughts" in message
    assert "line 10" not in message
    assert message.endswith("leave them out with `bad_records: drop`)")
    assert "\n" not in message
    with pytest.raises(DataError, match="1 of 7 records is faulty; the first: line 1: `prompt` is empty"):
        load(file, [BAD[0], *GOOD])
    with pytest.raises(DataError, match="2 of 8 records are faulty; the first: line 1, line 3: `prompt` is empty "):
        load(file, [BAD[0], GOOD[0], BAD[0], *GOOD[1:]])


def test_faulty_records_are_dropped_if_asked_for(tmp_path: Path):
    file = tmp_path / "d.jsonl"
    with pytest.warns(UserWarning, match=r"5 of 11 records are faulty; .*line 7.*; they are left out") as caught:
        task = load(file, [*GOOD, *BAD], bad_records="drop")
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert (len(task.train) + len(task.test), task.dropped_records) == (6, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(file, GOOD, bad_records="drop").dropped_records == 0
    with pytest.raises(DataError, match="5 of 5 records are faulty") as error:
        load(file, BAD, bad_records="drop")
    assert "bad_records" not in str(error.value)


def test_dropped_records_of_both_files_are_counted(tmp_path: Path):
    test = tmp_path / "test.jsonl"
    test.write_text('{"prompt": "x"}\n{"prompt": ""}\n')
    with pytest.warns(UserWarning, match="records? (is|are) faulty"):
        task = load(tmp_path / "d.jsonl", [*GOOD, *BAD], test=str(test), bad_records="drop")
    assert task.dropped_records == 6


@pytest.mark.parametrize("suffix", ["json", "parquet", "csv"])
def test_items_and_rows_are_named(tmp_path: Path, suffix: str):
    import pandas

    rows = pandas.DataFrame({"prompt": ["a", None, "b"], "completion": ["x", "y", "z"]})
    file = tmp_path / f"d.{suffix}"
    match suffix:
        case "json":
            rows.to_json(file, orient="records")
        case "parquet":
            rows.to_parquet(file)
        case _:
            rows.to_csv(file, index=False)
    place = {"json": "item 2", "parquet": "row 2", "csv": "line 3"}[suffix]
    with pytest.raises(DataError, match=f"1 of 3 records is faulty; the first: {place}: `prompt` is empty"):
        load_task(TaskSettings(name="t", train=str(file)))


def test_published_tasks_count_theirs(tmp_path: Path):
    good = [{"prompt": f"q{n}", "answer": "A", "system": "s"} for n in range(4)]
    file = tmp_path / "d.json"
    file.write_text(json.dumps([*good, {"prompt": "q", "answer": "AB"}]))
    settings = TaskSettings(name="t", train=str(file), reader="sciknoweval")
    with pytest.raises(DataError, match="1 of 5 records is faulty; the first: item 5: `answer` is 'AB'"):
        load_task(settings)
    with pytest.warns(UserWarning, match="1 of 5 records is faulty"):
        assert load_task(settings.model_copy(update={"bad_records": "drop"})).dropped_records == 1
