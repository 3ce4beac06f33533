"""`holdfast.tasks.files`: records of files and datasets as examples, and one line for every error in them."""

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.config.settings import Columns
from holdfast.data.example import Example
from holdfast.data.thoughts import THOUGHT_KEYS
from holdfast.errors import DataError
from holdfast.tasks.files import Record, read_dataset, read_records, records_to_examples
from holdfast.tasks.readers.forms import ALPACA_PROMPT, SHAREGPT
from holdfast.tasks.readers.weights import TRAINED_KEYS

ROWS = [{"prompt": "1 + 1?", "completion": "2"}, {"prompt": "2 + 2?", "completion": "4"}]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def example(values: dict[str, Any], **columns: str):
    return records_to_examples([Record(values, 3, "d.jsonl:3")], Columns(**columns), "d.jsonl")[0]


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("a.json", "\n".join(map(json.dumps, ROWS)) + "\n"),
        ("a.json", json.dumps(ROWS, indent=2)),
        ("a.json", "\ufeff  \n" + json.dumps(ROWS)),
        ("a.jsonl", "\ufeff" + "\r\n\r\n".join(map(json.dumps, ROWS))),
    ],
)
def test_reads_json_in_each_layout(tmp_path: Path, name: str, text: str):
    records = read_records(write(tmp_path / name, text))
    assert [r.values for r in records] == ROWS


def test_records_know_their_lines_and_unicode_line_separators_do_not_split(tmp_path: Path):
    lines = ['{"prompt": "a\u2028b"}', "", '{"prompt": "c\u0085d"}']
    records = read_records(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert [(r.number, r.values["prompt"]) for r in records] == [(1, "a\u2028b"), (3, "c\u0085d")]
    assert records[1].where == f"{tmp_path}/a.jsonl:3"


def test_reads_parquet(tmp_path: Path):
    rows = [{"prompt": [turn("user", "hi")], "answer": 3}, {"prompt": [turn("user", "ho")], "answer": None}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    records = read_records(tmp_path / "a.parquet")
    assert [r.values for r in records] == rows
    assert records[1].where.endswith("a.parquet, row 2")
    examples = records_to_examples(records, Columns(), str(tmp_path / "a.parquet"))
    assert [(e.id, e.answer) for e in examples] == [("a-1", 3), ("a-2", None)]


def test_reads_hugging_face_folders(tmp_path: Path):
    both = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[:1])}
    )
    both.save_to_disk(tmp_path / "both")
    both["train"].save_to_disk(tmp_path / "one")
    (tmp_path / "files").mkdir()
    write(tmp_path / "files" / "train.jsonl", "\n".join(map(json.dumps, ROWS)))
    assert [r.values for r in read_dataset(str(tmp_path / "both"), "test")] == ROWS[:1]
    for folder in ("both", "one", "files"):
        records = read_dataset(str(tmp_path / folder), "train")
        assert [r.values for r in records] == ROWS
        assert records[1].where.endswith(f"{folder}/train, row 2")
    assert records_to_examples(records, Columns(), f"{tmp_path}/files/train")[1].id == "train-2"
    for folder, split, message in (
        ("both", "tset", "did you mean 'test'"),
        ("one", "test", "train"),
        ("none", "train", "cannot be loaded"),
    ):
        with pytest.raises(DataError, match=message) as error:
            read_dataset(str(tmp_path / folder), split)
        assert "\n" not in str(error.value)
        assert folder in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "", "has no records"),
        ("a.jsonl", "\n \n", "has no records"),
        ("a.json", "[]", "has no records"),
        ("a.jsonl", '{"prompt": "x"}\n{"prompt": }', r"a.jsonl:2: is not valid JSON"),
        ("a.jsonl", '{"prompt": "x"}\n"y"', r"a.jsonl:2: is text, not an object"),
        ("a.json", '[{"prompt": "x"}, 3]', r"a.json, item 2: is a number, not an object"),
        ("a.json", '[{"prompt": "x"}\n', r"a.json: is not valid JSON: .* at line 2"),
        ("a.json", '{\n"prompt": "x",\n}', r"a.json: is not valid JSON: .* at line 3.*remove the comma"),
        ("a.jsonl", "[" * 100_000, "cannot be read as JSON|not valid JSON"),
        ("a.txt", "prompt\nx", "unknown file type '.txt'"),
        ("a.parquet", "not parquet", "is not a Parquet file"),
    ],
)
def test_unreadable_files_give_one_line(tmp_path: Path, name: str, text: str, message: str):
    with pytest.raises(DataError, match=message) as error:
        read_records(write(tmp_path / name, text))
    assert "\n" not in str(error.value)
    assert str(tmp_path / name) in str(error.value)


def test_missing_files_folders_and_wrong_encodings(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        read_records(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="dataset:"):
        read_records(tmp_path)
    (tmp_path / "b.jsonl").write_bytes(b'{"prompt": "caf\xe9"}')
    with pytest.raises(DataError, match="cannot be read"):
        read_records(tmp_path / "b.jsonl")


def test_plain_columns():
    e = example({"prompt": "q", "completion": "a", "privileged_context": "p", "answer": {"x": 1}, "topic": "t"})
    assert e.id == "d-3"
    assert e.messages == ({"role": "user", "content": "q"},)
    assert (e.demonstration, e.privileged_context, e.answer, dict(e.metadata)) == ("a", "p", {"x": 1}, {"topic": "t"})


def test_conversational_columns():
    prompt = [
        turn("system", "s"),
        turn("user", "q"),
        turn("assistant", "a"),
        turn("user", [{"type": "text", "text": "r"}]),
    ]
    e = example(
        {
            "prompt": prompt,
            "completion": [turn("assistant", "b")],
            "privileged_context": [turn("user", "c"), turn("assistant", "d")],
            "id": 7,
        }
    )
    assert [m["content"] for m in e.messages] == ["s", "q", "a", "r"]
    assert (e.id, e.demonstration, e.privileged_context) == ("7", "b", "c\nd")


def test_columns_of_steps_actions_and_translations():
    e = example({"prompt": "q", "system": "s", "solution": "a\nb\n", "actions": ["f(1)", "g(2)"], "translation": "t"})
    assert (e.solution, e.actions) == (("a", "b"), ("f(1)", "g(2)"))
    assert e.translation == (turn("system", "s"), turn("user", "t"))
    assert {"solution", "actions", "translation", "privileged_context"} == e.privileges()
    turns = [turn("system", "u"), turn("user", "t")]
    assert example({"prompt": "q", "translation": turns}).translation == tuple(turns)


def test_messages_column_is_split_before_its_last_turn():
    turns = [turn("user", "q"), turn("assistant", "a"), turn("user", "r"), turn("assistant", "b")]
    e = example({"messages": turns})
    assert [m["content"] for m in e.messages] == ["q", "a", "r"]
    assert e.demonstration == "b"
    assert example({"messages": turns[:1]}).demonstration is None
    assert example({"messages": turns}, prompt="messages") == e


def test_system_column_and_columns_of_other_names():
    e = example(
        {"question": "q", "sys": "s", "key": "k", "gold": "g"}, prompt="question", system="sys", id="key", answer="gold"
    )
    assert [m["role"] for m in e.messages] == ["system", "user"]
    assert (e.id, e.answer, dict(e.metadata)) == ("k", "g", {})
    assert len(example({"prompt": "q", "system": None}).messages) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"promt": "q"}, r"no column 'prompt'; the columns are promt \(did you mean 'promt'\?\)"),
        ({"text": "q"}, r"no column 'prompt'; the columns are text \(name the column under `columns:`\)"),
        ({"prompt": None}, "`prompt` is empty"),
        ({"prompt": "  "}, "`prompt` is empty"),
        ({"prompt": 3}, "`prompt` is a number"),
        ({"prompt": []}, "`prompt` is empty"),
        ({"prompt": ["q"]}, r"`prompt\[0\]` is not a turn"),
        ({"prompt": [turn("human", "q")]}, "the role 'human'"),
        ({"prompt": [turn("user", None)]}, r"`prompt\[0\].content` is empty"),
        ({"prompt": [turn("user", [{"type": "image"}])]}, "is a list, not text"),
        ({"prompt": [turn("user", "q"), turn("assistant", "a")]}, "does not end with a user turn"),
        (
            {"prompt": [turn("user", "q"), turn("system", "s"), turn("user", "r")]},
            "system turn that is not its first turn",
        ),
        ({"prompt": [turn("user", "q"), {**turn("assistant", "a"), "tool_calls": [1]}]}, r"tool_calls\[0\]` is not a"),
        ({"messages": [turn("assistant", "a")]}, "does not end with a user turn"),
        ({"prompt": [turn("system", "s"), turn("user", "q")], "system": "t"}, "keep one of them"),
        ({"prompt": "q", "completion": ""}, "`completion` is empty"),
        ({"prompt": "q", "completion": 2}, "`completion` is a number"),
        ({"prompt": "q", "completion": [turn("user", "a")]}, "not one assistant turn"),
        ({"prompt": "q", "privileged_context": {}}, "`privileged_context` is an object"),
        ({"prompt": "q", "actions": []}, "`actions` is empty"),
        ({"prompt": "q", "solution": {}}, "`solution` is an object"),
        ({"prompt": "q", "translation": [turn("assistant", "t")]}, "`translation` does not end with a user turn"),
        ({"prompt": "q", "id": True}, "`id` is true or false"),
        ({"prompt": "q\ud800"}, "surrogate"),
    ],
)
def test_malformed_records_name_file_and_line(values: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message) as error:
        example(values)
    assert str(error.value).startswith("d.jsonl:3: ")
    assert "\n" not in str(error.value)


def test_a_named_column_must_exist_and_ids_must_be_unique():
    with pytest.raises(DataError, match=r"^d.jsonl: no column 'respnse'; .* \(did you mean 'response'\?\)"):
        example({"prompt": "q", "response": "a"}, completion="respnse")
    records = [Record({"prompt": "q", "id": "x"}, n, f"d.jsonl:{n}") for n in (1, 2)]
    with pytest.raises(DataError, match=r"^d.jsonl:2: the id 'x' is used twice, first at d.jsonl:1"):
        records_to_examples(records, Columns(), "d.jsonl")
    with pytest.raises(DataError, match="has no records"):
        records_to_examples([], Columns(), "d.jsonl")


ROLE_WORDS = ["user", "assistant", "system", "tool", "developer", "human", "gpt", "function_call", "observation"]
TURN_KEYS = ["role", "content", "from", "value", "type", "text", *THOUGHT_KEYS, *TRAINED_KEYS, "masked", "tool_calls"]
THOUGHTS = ["<think>a</think>b", "a</think>b", "<think>a"]
WORDS = st.text(max_size=5) | st.sampled_from([*THOUGHTS, "[1]", '[{"role": "user"}]'])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*TURN_KEYS, "name", "function", "arguments", "user"]), inner, max_size=3)
        | st.fixed_dictionaries(
            {"role": st.sampled_from(ROLE_WORDS), "content": inner},
            optional={key: inner for key in TURN_KEYS if key not in ("role", "content")},
        )
        | st.fixed_dictionaries({"from": st.sampled_from(ROLE_WORDS), "value": inner})
    ),
    max_leaves=8,
)


def outcome(values: dict[str, Any]) -> Example | DataError:
    try:
        return example(values)
    except DataError as error:
        return error


@given(st.dictionaries(st.sampled_from([*Columns().model_dump(), *ALPACA_PROMPT, "output", *SHAREGPT, "images"]), JSON))
def test_any_record_gives_an_example_or_an_error_of_one_line(values: dict[str, Any]):
    result = outcome(values)
    if isinstance(result, DataError):
        assert str(result).startswith("d.jsonl")
        assert "\n" not in result.what
    else:
        assert result.messages[-1]["role"] in ("user", "tool")
        assert all(isinstance(m["content"], str) for m in result.messages)
        assert all(result.messages[index]["role"] == "assistant" for index in result.trained_turns)
