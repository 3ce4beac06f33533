"""`holdfast.tasks.load`: data of odd kinds is read, or refused in one clear line, and nothing is waited for.

What is read must be encoded for a model and written as JSON; with `HOLDFAST_TORTURE` each kind also goes through a run.
"""

import bz2
import gzip
import json
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

from cases import IS_LONG, amount
from commands import Commands
from holdfast.config.load import load_config
from holdfast.config.settings import ModelSettings, RunConfig
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.tasks.load import load_stream
from torture import Search, fault_of_line, limit

RECORDS = [{"prompt": f"What is {n}?", "completion": f"It is {n}.", "answer": str(n)} for n in range(12)]

Kind = Callable[[Path], dict[str, Any] | None]
"""Writes data into a folder; returns the settings of the task, None for `train: data.jsonl`."""


def _lines(records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def _file(data: bytes | str, name: str = "data.jsonl") -> Kind:
    def write(folder: Path) -> dict[str, Any]:
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
        return {"train": name}

    return write


def _after(text: str) -> Kind:
    """Twelve good lines, and then something else."""
    return _file(_lines(RECORDS) + text)


def _link(target: str) -> Kind:
    def write(folder: Path) -> None:
        (folder / "data.jsonl").symlink_to(target)

    return write


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "data.jsonl")


def _socket(folder: Path) -> dict[str, Any]:
    before = os.getcwd()
    os.chdir(folder)  # the path of a socket may have some hundred characters only
    try:
        socket.socket(socket.AF_UNIX).bind("data.jsonl")
    finally:
        os.chdir(before)
    return {"train": "data.jsonl"}


def _folder(folder: Path) -> None:
    (folder / "data.jsonl").mkdir()


def _named(path: str) -> Kind:
    return lambda folder: {"train": path}


def _parquet(frame: Callable[[], pandas.DataFrame], cut: int | None = None) -> Kind:
    def write(folder: Path) -> dict[str, Any]:
        frame().to_parquet(folder / "data.parquet")
        if cut is not None:
            data = (folder / "data.parquet").read_bytes()
            (folder / "data.parquet").write_bytes(data[:cut] + data[cut + 40 :])
        return {"train": "data.parquet"}

    return write


def _half(character: str) -> str:
    return character + "\\ud83d"


REFUSED: dict[str, Kind] = {
    "a pipe": _pipe,
    "a socket": _socket,
    "a folder": _folder,
    "a device": _link("/dev/zero"),
    "an empty device": _link("/dev/null"),
    "a device by its path": _named("/dev/zero"),
    "a loop of links": _link("data.jsonl"),
    "a link to nowhere": _link("elsewhere.jsonl"),
    "a link to a folder": _link("."),
    "no such file": _named("elsewhere.jsonl"),
    "a file as a folder": _named("config.yaml/data.jsonl"),
    "a long name": _named("x" * 300 + ".jsonl"),
    "a long path": _named("x/" * 3000 + "data.jsonl"),
    "a name with NUL": _named("da\0ta.jsonl"),
    "a name with a newline": _named("da\nta.jsonl"),
    "a name that clears the screen": _named("\x1b[2Jdata.jsonl"),
    "a name with half a character": _named("da\ud800ta.jsonl"),
    "no name": _named(""),
    "another type": _file("prompt", "data.txt"),
    "no type": _file("prompt", "data"),
    "packed in another way": _file(b"PK\3\4", "data.zip"),
    "empty": _file(""),
    "blank": _file("\n\n \n"),
    "a byte-order mark": _file("\ufeff"),
    "NUL": _file(b"\0" * 5000),
    "NUL after good lines": _after("\0" * 500 + "\n"),
    "random bytes": _file(random.Random(0).randbytes(4000)),
    "Latin-1": _file(_lines(RECORDS).replace("What", "Qu\xe9").encode("latin-1")),
    "UTF-16 without a mark": _file(_lines(RECORDS).encode("utf-16-le")),
    "HTML": _file("<!DOCTYPE html><html><body>404</body></html>"),
    "a pointer of Git LFS": _file("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"),
    "YAML": _file("- prompt: a\n  completion: b\n"),
    "Python": _file("".join(f"{record!r}\n" for record in RECORDS)),
    "a number": _file("3"),
    "null": _file("null"),
    "text": _file('"prompt"'),
    "an empty list": _file("[]", "data.json"),
    "an empty object": _file("{}"),
    "a list of numbers": _file("[1, 2, 3]", "data.json"),
    "a list that does not end": _file(json.dumps(RECORDS)[:-1], "data.json"),
    "lists in lists": _file(json.dumps([RECORDS]), "data.json"),
    "deep lists": _file("[" * 200_000, "data.json"),
    "deep lists that end": _file("[" * 100_000 + "]" * 100_000, "data.json"),
    "a deep line": _after('{"prompt": ' * 100_000 + "1" + "}" * 100_000),
    "deep lists in a column": _after('{"prompt": ' + "[" * 50_000 + "]" * 50_000 + "}"),
    "5000 digits": _after('{"prompt": "a", "completion": "b", "answer": ' + "9" * 5000 + "}"),
    "a line that is cut": _after('{"prompt": "a", "comp'),
    "NaN": _after('{"prompt": "a", "completion": "b", "answer": NaN}'),
    "an infinity": _after('{"prompt": "a", "completion": "b", "answer": -Infinity}'),
    "a number that is infinite": _after('{"prompt": "a", "completion": "b", "answer": 1e999}'),
    "NaN within an answer": _after('{"prompt": "a", "completion": "b", "answer": {"x": [1e999]}}'),
    "a key twice": _after('{"prompt": "a", "completion": "b", "prompt": "c", "answer": "d"}'),
    "a key twice within": _after('{"prompt": "a", "completion": "b", "answer": {"x": 1, "x": 2}}'),
    "half a character in an id": _after(_half('{"prompt": "a", "completion": "b", "answer": "c", "id": "') + '"}'),
    "half a character in a prompt": _after(_half('{"completion": "b", "answer": "c", "prompt": "') + '"}'),
    "half a character in an answer": _after(_half('{"prompt": "a", "completion": "b", "answer": "') + '"}'),
    "half a character in a name": _after(
        '{"prompt": [{"role": "user", "content": "a", "name": "\\ud83d"}], "completion": "b", "answer": "c"}'
    ),
    "an id twice": _file(_lines({**record, "id": "same"} for record in RECORDS)),
    "a line of 50 MB": _after(json.dumps({"prompt": "x" * 50_000_000, "completion": "b", "answer": "c"})),
    "a line of 50 MB in words": _after(json.dumps({"prompt": "ab " * 17_000_000, "completion": "b", "answer": "c"})),
    "a turn of 50 MB": _after(
        json.dumps(
            {"messages": [{"role": "user", "content": "x y " * 12_000_000}, {"role": "assistant", "content": "b"}]}
        )
    ),
    "a line of 50 MB that does not end": _after('{"prompt": "' + "x" * 50_000_000),
    "50 MB without lines": _file("x" * 50_000_000),
    "a million columns": _after("{" + ", ".join(f'"k{n}": 1' for n in range(1_000_000)) + "}"),
    "gzip that is none": _file(_lines(RECORDS), "data.jsonl.gz"),
    "gzip that is cut": _file(gzip.compress(_lines(RECORDS).encode())[:-20], "data.jsonl.gz"),
    "bzip2 that is cut": _file(bz2.compress(_lines(RECORDS).encode())[:-20], "data.jsonl.bz2"),
    "xz that is none": _file(b"\xfd7zXZ\0" + b"x" * 100, "data.jsonl.xz"),
    "gzip of zeros": _file(gzip.compress(b"\0" * 50_000_000), "data.jsonl.gz"),
    "Parquet that is none": _file("PAR1", "data.parquet"),
    "Parquet that is cut": _parquet(lambda: pandas.DataFrame(RECORDS), cut=600),
    "Parquet of no rows": _parquet(lambda: pandas.DataFrame({"prompt": [], "completion": []})),
    "Parquet with NaN": _parquet(lambda: pandas.DataFrame([{**r, "answer": [float("inf")]} for r in RECORDS])),
    "CSV of one line": _file("prompt,completion\n", "data.csv"),
    "CSV with an open quote": _file('prompt,completion\na,"b\n' + "c,d\n" * 5, "data.csv"),
    "CSV with NUL": _file("prompt,completion\na\0,b\n", "data.csv"),
    "CSV with a column twice": _file("prompt,prompt\na,b\n", "data.csv"),
    "CSV with short rows": _file("prompt,completion\n" + "a\n" * 5, "data.csv"),
    "CSV without names": _file("\n\n\n", "data.csv"),
    "CSV of 50 MB in a cell": _file("prompt,completion\na," + "x" * 50_000_000 + "\n", "data.csv"),
    "JSON as CSV": _file(_lines(RECORDS), "data.csv"),
    "Parquet as JSON": _file(b"PAR1" + bytes(200) + b"PAR1", "data.jsonl"),
}
"""Data that no run can be meant to read."""

ASKED = {"role": "user", "content": "a"}

VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        3,
        10**400,
        0.5,
        1e308,
        "",
        " ",
        "\n",
        "\0",
        "\x1b[31mred\x1b[0m",
        "\u202eabc",
        "\ud800",
    ),
    *(
        "\r\n\u2028\u0085",
        "<|im_end|>",
        "<|im_start|>user\n",
        "<think>",
        "</think>",
        "[",
        "{",
        "[1, 2]",
        "NaN",
        "é" * 50,
    ),
    *(
        '[{"role": "user"}]',
        '[{"role": "user", "content": "a"}]',
        "{{ x }}",
        "{prompt}",
        "{0.real}",
        "%s",
        "\\",
        "́",
    ),
    *(
        [],
        [[]],
        [None],
        ["a", "b"],
        [1, 2],
        ["a", None],
        [["a", "b"]],
        {},
        {"a": 1},
        {"": ""},
        [{}],
        [{"role": "user"}],
    ),
    [{"role": "user", "content": "a"}],
    [{"role": "user", "content": None}],
    [{"role": "user", "content": ["a", {"type": "text", "text": "b"}]}],
    [{"role": "user", "content": [{"type": {"a": 1}}]}],
    [{"role": "user", "content": [{"type": ["text"], "text": "b"}]}],
    [{"role": ["user"], "content": "a"}],
    [{"role": {}, "content": "a"}],
    [{"role": "user", "content": {"a": 1}}],
    [{"role": "assistant", "content": "a"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    [ASKED, {"role": "assistant", "content": "b", "weight": "x"}],
    [ASKED, {"role": "assistant", "content": "b", "weight": [1]}],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
    ],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "NaN"}}]},
    ],
    [ASKED, {"role": "assistant", "tool_calls": {"function": 3}}],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [{"function": {"name": ["f"], "arguments": {}}}]},
    ],
    [
        {"role": "user", "content": "a", "tool_call_id": "\ud800"},
        {"role": "assistant", "content": "b", "name": "\ud800"},
    ],
    [{"from": "human", "value": "a"}, {"from": "gpt", "value": ["b"]}],
    [{"from": ["human"], "value": "a"}],
    [{"type": "function", "function": {"name": "f"}}],
    [{"type": "function", "function": {"name": "f", "parameters": [1]}}],
    [{"type": ["function"], "function": 3}],
    [{"name": {"a": 1}}],
    {"ground_truth": [1, 2]},
    {"role": "user", "content": "a"},
    [[{"role": "user", "content": "a"}]],
)
"""Values of a column."""

COLUMNS = (
    *("prompt", "rendered_prompt", "completion", "reasoning_content", "messages", "tools", "privileged_context"),
    *("solution", "plan", "actions", "translation", "gen_prefix", "target", "answer", "system", "id"),
    *(
        "conversations",
        "instruction",
        "input",
        "output",
        "history",
        "functions",
        "weight",
        "weights",
        "chosen",
        "rejected",
    ),
    *("label", "images", "reward_model", "data_source", "extra", "\x1b[31m", "", "a.b", "text", "question", "ability"),
)
"""Columns that a record may have, and that may be read."""


@pytest.fixture(scope="module")
def policy(tiny_model: Path) -> Policy:
    return load_policy(ModelSettings(path=str(tiny_model)))


def _config(folder: Path, model: Path, settings: dict[str, Any] | None, recipe: str = "sft") -> Path:
    task = {"name": "task", "test_fraction": 0.25, **(settings or {"train": "data.jsonl"})}
    path = folder / "config.yaml"
    data = {
        "model": {"path": str(model)},
        "tasks": [task],
        "recipe": recipe,
        "train": {"steps": 1, "prompts_per_step": 2, "max_prompt_length": 200, "max_completion_length": 8},
        "eval": {"kl_items": 0, "max_items": 2, "response_items": 2, "demonstration_items": 0},
    }
    path.write_text(json.dumps(data))
    return path


def _loaded(folder: Path, config: Path, policy: Policy) -> str:
    tasks, _ = load_stream(load_config(config, RunConfig))
    for example in [*tasks[0].train, *tasks[0].test]:
        ids = policy.chat_format.encode_example(example, where=example.id)
        assert ids
        assert len(ids) < 3_000_000
        json.dumps([example.id, example.answer, example.messages], allow_nan=False, ensure_ascii=False).encode()
        assert example.demonstration is None or example.demonstration.encode()
    assert len({example.id for example in tasks[0].train}) == len(tasks[0].train)
    return "read"


def _cleared(folder: Path) -> Path:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    return folder


def test_the_data_that_is_varied_is_read(tmp_path: Path, tiny_model: Path, policy: Policy) -> None:
    assert _loaded(tmp_path, _config(tmp_path, tiny_model, _file(_lines(RECORDS))(tmp_path)), policy) == "read"


def test_data_that_cannot_be_meant_is_refused_in_one_clear_line(
    tmp_path: Path, tiny_model: Path, policy: Policy
) -> None:
    search = Search("data", seconds=20)
    for name, write in REFUSED.items():
        folder = _cleared(tmp_path)
        config = _config(folder, tiny_model, write(folder))
        if search.attempt("files", name, lambda c=config, f=folder: _loaded(f, c, policy)) == "read":  # type: ignore[misc]
            search.blame("files", name, "is read")
    search.conclude()


def _records_with(column: str, value: Any, generator: random.Random) -> list[dict[str, Any]]:
    """Good records, of which one or all have an odd value in a column, in a form that reads the column."""
    base = [dict(record) for record in RECORDS]
    if column in ("messages", "conversations"):
        base = [
            {column: [{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": "b"}]} for r in RECORDS
        ]
    elif column in ("instruction", "input", "output", "history"):
        base = [{"instruction": r["prompt"], "output": r["completion"]} for r in RECORDS]
    elif column in ("rendered_prompt",):
        base = [{"rendered_prompt": r["prompt"], "completion": r["completion"]} for r in RECORDS]
    elif column in ("gen_prefix", "target"):
        base = [{**r, "gen_prefix": "a", "target": "b"} for r in RECORDS]
    everywhere = generator.random() < 0.5
    for index, record in enumerate(base):
        if everywhere or index == 5:
            record[column] = value
    return base


@pytest.mark.torture
def test_records_with_odd_values_are_read_or_refused_in_one_clear_line(
    tmp_path: Path, tiny_model: Path, policy: Policy
) -> None:
    search, generator = Search("data", seconds=20), random.Random(2)
    cases = [(column, value) for column in COLUMNS for value in VALUES]
    generator.shuffle(cases)
    for column, value in cases[: amount(300, len(cases))]:
        folder, records = _cleared(tmp_path), _records_with(column, value, generator)
        name = generator.choice(["data.jsonl", "data.json"])
        (folder / name).write_text(_lines(records) if name == "data.jsonl" else json.dumps(records))
        dropping = generator.choice(["refuse", "drop"])
        config = _config(folder, tiny_model, {"train": name, "bad_records": dropping})
        case = f"{column}={value!r} {name} {dropping}"
        search.attempt("records", case, lambda c=config, f=folder: _loaded(f, c, policy))  # type: ignore[misc]
    search.conclude()


@pytest.mark.slow
@pytest.mark.torture
def test_runs_on_odd_data_end_well_or_in_one_clear_line(
    command: Commands, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> None:
    if not IS_LONG:
        pytest.skip("a search of its own; `make torture` runs it")
    search, generator = Search("data", seconds=120), random.Random(3)
    for count in range(150):
        folder = tmp_path_factory.mktemp("run")
        column, value = generator.choice(COLUMNS), generator.choice(VALUES)
        (folder / "data.jsonl").write_text(_lines(_records_with(column, value, generator)))
        recipe = generator.choice(["sft", "sdft", "grpo", "sdpo"])
        config = _config(folder, tiny_model, {"train": "data.jsonl", "bad_records": "drop"}, recipe)
        case = f"{count}: {recipe} {column}={value!r}"
        outcome = search.attempt("runs", case, lambda c=config, f=folder: command("run", c, "-o", f / "out"))  # type: ignore[misc]
        if outcome is None:
            continue
        finished = outcome.code == 0 and (folder / "out" / "report.html").exists()
        refused = outcome.code == 2 and not (folder / "out").exists()
        lines = [line for line in outcome.err.splitlines() if line.startswith("holdfast: error")]
        if not finished and not (refused and len(lines) == 1 and not fault_of_line(lines[0])):
            search.blame("runs", case, f"exit code {outcome.code}: {outcome.err[-300:]}")
    search.conclude()


def test_a_record_that_is_too_long_can_be_dropped(tmp_path: Path, tiny_model: Path, policy: Policy) -> None:
    (tmp_path / "data.jsonl").write_text(
        _lines([*RECORDS, {"prompt": "x" * 3_000_000, "completion": "b", "answer": "c"}])
    )
    config = _config(tmp_path, tiny_model, {"train": "data.jsonl", "bad_records": "drop"})
    with limit(20), pytest.warns(UserWarning, match="3,000,000 characters"):
        assert _loaded(tmp_path, config, policy) == "read"
