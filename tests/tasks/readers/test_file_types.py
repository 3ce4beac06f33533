"""`holdfast.tasks.readers.file_types`: files of each type, packed ones too, and true messages for the others."""

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.config.settings import Columns, TaskSettings
from holdfast.errors import DataError
from holdfast.tasks.files import FaultyRecord, read_dataset, read_file, read_records, records_to_examples
from holdfast.tasks.load import load_task
from holdfast.tasks.readers.json_text import json_records

ROWS = [{"prompt": "1 + 1?", "completion": "2"}, {"prompt": "2 + 2?", "completion": "4"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def values(path: Path, split: str | None = None) -> list[Any]:
    return [each.error if isinstance(each, FaultyRecord) else each.values for each in read_file(path, split)]


@pytest.mark.parametrize("orient", ["records", "columns", "split", "list", "table"])
def test_what_pandas_writes_is_read(tmp_path: Path, orient: str):
    frame = pandas.DataFrame(ROWS)
    file = tmp_path / "a.json"
    if orient == "list":
        file.write_text(json.dumps(frame.to_dict(orient="list")))
    else:
        frame.to_json(file, orient=orient)  # type: ignore[call-overload]
    read = [{key: value for key, value in row.items() if key != "index"} for row in values(file)]
    assert read == ROWS


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "wrapped",
    [
        {"data": ROWS},
        {"version": "1.0", "data": ROWS},
        {"rows": ROWS, "count": 2, "meta": {"by": "x"}},
        {"train": ROWS, "test": ROWS[:1]},
        {"examples": ROWS, "empty": []},
        {"data": [{**row, "role": "x", "name": "n", "description": "d", "function": "f"} for row in ROWS]},
    ],
)
def test_records_wrapped_in_an_object_are_read(tmp_path: Path, wrapped: dict[str, Any], indent: int | None):
    file = written(tmp_path / "a.json", json.dumps(wrapped, indent=indent))
    assert [{key: row[key] for key in ROWS[0]} for row in values(file, "train")] == ROWS
    where = read_file(file, "train")[1].where
    assert where == f"{file}, item 2"


def test_the_split_of_a_wrapped_file_is_what_it_is_used_for(tmp_path: Path):
    rows = [{"prompt": f"q{n}", "answer": n} for n in range(6)]
    file = str(written(tmp_path / "a.json", json.dumps({"train": rows[:4], "test": rows[4:]})))
    task = load_task(TaskSettings(name="t", train=file, test=file))
    assert (len(task.train), len(task.test)) == (4, 2)
    other = written(tmp_path / "b.json", json.dumps({"easy": rows[:4], "hard": rows[4:]}))
    with pytest.raises(DataError, match=r"with the lists 'easy', 'hard' .write one file per list"):
        load_task(TaskSettings(name="t", train=str(other)))


TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "q"},
        {"messages": TURNS},
        {"messages": TURNS, "tools": [{"type": "function", "function": {"name": "f"}}]},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
        {"prompt": "q", "facts": [{"title": "x"}]},
        {"conversations": [{"from": "human", "value": "q"}]},
        {"dialog": TURNS},
        {"question": {"text": "q"}, "solution": ["a", "b"]},
    ],
)
def test_a_file_of_one_record_wraps_nothing(tmp_path: Path, record: dict[str, Any], indent: int | None):
    assert values(written(tmp_path / "a.json", json.dumps(record, indent=indent))) == [record]


def test_objects_over_several_lines_are_read(tmp_path: Path):
    file = written(tmp_path / "a.json", "\n".join(json.dumps(row, indent=2) for row in ROWS))
    assert values(file) == ROWS
    assert [each.where for each in read_file(file)] == [f"{file}:1", f"{file}:5"]


def test_objects_on_one_line_have_numbers_of_their_own(tmp_path: Path):
    """Two records of line 1 had one id, which was then "used twice"."""
    file = written(tmp_path / "a.jsonl", LINES.replace("\n", ""))
    assert [e.id for e in records_to_examples(read_records(file), Columns(), str(file))] == ["a-1", "a-2"]


@pytest.mark.parametrize("pack", [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
@pytest.mark.parametrize(("suffix", "content"), [(".jsonl", LINES), (".json", json.dumps(ROWS))])
def test_packed_files_are_read(tmp_path: Path, pack: Any, suffix: str, content: str):
    file = written(tmp_path / f"a{suffix}{pack[0]}", pack[1](content.encode()))
    assert values(file) == ROWS
    assert records_to_examples(read_records(file), Columns(), str(file))[0].id == "a-1"
    with pytest.raises(DataError, match=r"cannot be read.*pack it again"):
        read_file(written(file, b"no"))
    with pytest.raises(DataError, match=r"cannot be read.*pack it again"):
        read_file(written(file, pack[1](content.encode())[:-9]))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, line_end: str, suffix: str):
    separator = "\t" if suffix == ".tsv" else ","
    text = f"prompt{separator}completion\ncafé?{separator}yes\nthé?{separator}no\n"
    if suffix.startswith(".json"):
        text = '{"prompt": "café?", "completion": "yes"}\n{"prompt": "thé?", "completion": "no"}\n'
    file = written(tmp_path / f"a{suffix}", text.replace("\n", line_end).encode(encoding))
    assert [row["prompt"] for row in values(file)] == ["café?", "thé?"]
    assert read_file(file)[1].where.startswith(f"{file}:")


def test_tables_of_text(tmp_path: Path):
    text = 'prompt,completion,answer,\r\n"a, b\r\nc",x,,0\r\n"say ""hi""",y,3,1\r\n\r\nshort,z\r\n'
    found = values(written(tmp_path / "a.csv", text))
    assert found[0] == {"prompt": "a, b\r\nc", "completion": "x", "answer": None}
    assert found[1] == {"prompt": 'say "hi"', "completion": "y", "answer": "3"}
    assert "has 2 cells, and the first line names 4 columns" in str(found[2])
    assert values(written(tmp_path / "a.csv", "prompt;completion\na, b;c\n")) == [{"prompt": "a, b", "completion": "c"}]
    assert values(written(tmp_path / "a.tsv", "prompt\tcompletion\na, b\tc\n")) == [
        {"prompt": "a, b", "completion": "c"}
    ]
    assert values(written(tmp_path / "a.csv", "prompt\tcompletion\na; b\tc\n")) == [
        {"prompt": "a; b", "completion": "c"}
    ]
    assert values(written(tmp_path / "a.csv", '"a, b";c\n1;2\n')) == [{"a, b": "1", "c": "2"}]
    rows = [{"prompt": "a, b", "completion": "c"}]
    for first in ("sep=;\r\n", '"sep=;"\n'):  # and the empty rows at the end that spreadsheets leave
        file = written(tmp_path / "a.csv", f"{first}prompt;completion\na, b;c\n;\n;\n")
        assert (values(file), read_file(file)[0].where) == (rows, f"{file}:3")
    long = "x" * 200_000
    assert values(written(tmp_path / "a.csv", f"prompt\n{long}\n")) == [{"prompt": long}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "has no records"),
        ("a.csv", "prompt,completion\n", "has no records"),
        ("a.csv", "prompt,prompt\na,b\n", "names the column 'prompt' twice"),
        ("a.csv", 'prompt\n"open\n', "is not a table of text"),
        ("a.jsonl.zst", b"x", "is packed as '.zst', which is not read .unpack it with `zstd -d a.jsonl.zst`"),
        ("a.zip", b"x", "is packed as '.zip'"),
        ("a.parquet.gz", gzip.compress(b"x", mtime=0), "unknown file type '.parquet.gz'"),
        ("a.xlsx", b"x", "unknown file type '.xlsx'"),
        ("a", b"x", "unknown file type ''"),
        ("a.jsonl", LINES.encode("utf-16-le"), "is not text, or text in UTF-16 without its mark"),
        ("a.jsonl", LINES.encode("utf-8") + b"\xe9", "cannot be read: .*save it as UTF-8"),
        ("a.json", '{"data": [', "is not valid JSON"),
        ("a.json", '{\n "data": [\n {"prompt": "q"},\n ]\n}', "is not valid JSON: .* at line 4.*remove the comma"),
        ("a.json", '[{"prompt": "q"},]', "remove the comma before the closing bracket"),
        ("a.json", "[{'prompt': 'q'}]", "this is Python's own notation"),
        ("a.json", '[{"prompt": None}]', "this is Python's own notation"),
        ("a.json", '[{"prompt": "q", "answer": NaN}]', "NaN is no JSON; write null"),
        ("a.jsonl", '{"prompt": "q", "answer": Infinity}', "Infinity is no JSON; write null"),
    ],
)
def test_other_files_are_refused_truly_in_one_line(tmp_path: Path, name: str, content: str | bytes, message: str):
    file = written(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as error:
        read_file(file)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "q"},', "remove what follows the object, e.g. a comma"),
        ('{"prompt": "q",}', "remove the comma"),
        ('{"prompt": "q"}{"prompt": "r"}', "write one object per line"),
        ("{'prompt': 'q'}", "Python's own notation"),
        ('{"prompt": NaN}', "NaN is no JSON"),
        ('"q"', "is text, not an object"),
        ("prompt", "is not valid JSON"),
    ],
)
def test_a_broken_line_is_one_faulty_record(line: str, message: str):
    found = list(json_records(f"{LINES}{line}\n", "d.jsonl"))
    assert [isinstance(each, FaultyRecord) for each in found] == [False, False, True]
    assert message in str(found[2].error)  # type: ignore[union-attr]
    assert str(found[2].error).startswith("d.jsonl:3: ")  # type: ignore[union-attr]


def test_a_broken_first_line_is_one_faulty_record_too():
    (first, *others) = json_records(f"{{prompt}}\n{LINES}", "d.jsonl")
    assert isinstance(first, FaultyRecord)
    assert [each.where for each in others] == ["d.jsonl:2", "d.jsonl:3"]


def test_saved_datasets_with_a_format_are_plain(tmp_path: Path):
    rows = [{"prompt": [{"role": "user", "content": "q"}], "solution": ["a", "b"], "answer": 3}]
    datasets.Dataset.from_list(rows).with_format("numpy").save_to_disk(tmp_path / "saved")
    records = read_dataset(str(tmp_path / "saved"), "train")
    assert records[0].values == rows[0]
    with pytest.raises(DataError, match=r"has no subsets .remove `subset`"):
        read_dataset(str(tmp_path / "saved"), "train", "main")
    assert records_to_examples(records, Columns(), "saved/train")[0].solution == ("a", "b")


def test_class_labels_are_read_by_name(tmp_path: Path):
    label = datasets.ClassLabel(names=["A", "B"])
    rows = {"prompt": ["q", "r", "s", "t"], "answer": [0, 1, -1, None]}
    features = datasets.Features({"prompt": datasets.Value("string"), "answer": label})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    assert [each.values["answer"] for each in read_dataset(str(tmp_path / "saved"), "train")] == ["A", "B", None, None]


def test_values_of_tables_that_python_cannot_hold_are_one_line(tmp_path: Path):
    import pyarrow
    import pyarrow.parquet

    year = pyarrow.array([10**17], pyarrow.timestamp("ms"))
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["q"], "when": year}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a value that Python cannot hold.*write that column as text"):
        read_file(tmp_path / "a.parquet")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["data", "prompt", "role", "columns", "0", "1"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def messages(text: str) -> list[str]:
    """The places of the records of a text, and the errors in it."""
    try:
        found = list(json_records(text, "d.json"))
    except DataError as error:
        return [str(error)]
    return [str(each.error) if isinstance(each, FaultyRecord) else each.where for each in found]


@given(JSON | st.text(max_size=20), st.sampled_from([None, 1]))
def test_any_text_gives_records_or_errors_of_one_line(value: Any, indent: int | None):
    text = value if isinstance(value, str) else json.dumps(value, indent=indent)
    for message in messages(text):
        assert "\n" not in message
