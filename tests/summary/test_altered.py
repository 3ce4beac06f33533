"""`holdfast.summary.read`: a summary that is damaged, or of a newer version, is refused in one clear line.

A summary is read by `report`, `compare` and `findings`. An altered one must give the report of a run, or be refused;
it must never be half a report.
"""

import copy
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cases import amount
from holdfast import api
from holdfast.cli.summary_text import summary_as_text
from holdfast.errors import RunError
from holdfast.summary.read import read_summary
from holdfast.summary.version import SCHEMA_VERSION
from summary_factory import make_comparison, make_run
from torture import Search

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    7,
    10**30,
    0.5,
    -2.5,
    1e308,
    "",
    "x",
    "\x1b[31m",
    "\ud800",
    [],
    [None],
    {},
    {"x": 1},
    [[]],
    "y" * 5000,
)

RAW: dict[str, Callable[[str], bytes]] = {
    "empty": lambda text: b"",
    "blank": lambda text: b"  \n",
    "cut in the middle": lambda text: text[: len(text) // 2].encode(),
    "cut at the end": lambda text: text.rstrip()[:-1].encode(),
    "a list": lambda text: f"[{text}]".encode(),
    "text": lambda text: b'"summary"',
    "null": lambda text: b"null",
    "a number": lambda text: b"3",
    "an empty object": lambda text: b"{}",
    "only a version": lambda text: b'{"schema_version": 1}',
    "version and kind": lambda text: b'{"schema_version": 4, "kind": "run"}',
    "an old version and kind": lambda text: b'{"schema_version": 1, "kind": "run"}',
    "an old comparison without runs": lambda text: b'{"schema_version": 2, "kind": "comparison", "runs": []}',
    "a comparison of nothing": lambda text: b'{"schema_version": 4, "kind": "comparison", "runs": []}',
    "NUL": lambda text: b"\0" * 4096,
    "zeros in the middle": lambda text: text[:200].encode() + b"\0" * 512 + text[712:].encode(),
    "Latin-1": lambda text: text.replace("synthetic", "synth\xe9tique").replace("sdft", "sd\xe9t").encode("latin-1"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "twice": lambda text: (text + text).encode(),
    "NaN": lambda text: text.replace(": 0.", ': NaN, "x": 0.', 1).encode(),
    "deep": lambda text: b"[" * 100_000,
    "5000 digits": lambda text: text.replace(
        f'"schema_version": {SCHEMA_VERSION}', '"schema_version": ' + "9" * 5000
    ).encode(),
    "HTML": lambda text: b"<html>",
}
"""Whole files that are no summary."""

VERSIONS = (0, -1, SCHEMA_VERSION + 1, 99, 10**30, True, False, "4", 4.0, 4.5, None, [4], {}, "4.0")


def _place(summary: dict[str, Any], generator: random.Random) -> tuple[Any, ...]:
    """The path of a value inside a summary: a few steps down, each into any of the entries."""
    path: list[Any] = []
    value: Any = summary
    for _ in range(generator.randint(1, 7)):
        if not isinstance(value, dict | list) or not value:
            break
        path.append(generator.choice(list(value) if isinstance(value, dict) else range(len(value))))
        value = value[path[-1]]
    return tuple(path)


def _altered(summary: dict[str, Any], path: tuple[Any, ...], generator: random.Random) -> tuple[str, dict[str, Any]]:
    """A copy of a summary in which one value is changed, removed, repeated, or added to."""
    changed = copy.deepcopy(summary)
    holder: Any = changed
    for key in path[:-1]:
        holder = holder[key]
    how = generator.choice(["value", "value", "removed", "repeated", "another's", "renamed", "nudged"])
    key = path[-1]
    if how == "value":
        holder[key] = copy.deepcopy(generator.choice(VALUES))
        how = f"{str(holder[key])[:20]!r}"
    elif how == "removed":
        del holder[key]
    elif how == "repeated" and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif how == "another's":
        other: Any = summary
        for part in _place(summary, generator):
            other = other[part]
        holder[key] = copy.deepcopy(other)
    elif how == "nudged" and isinstance(holder[key], int | float):
        holder[key] = holder[key] * generator.choice([-1, 2, 1000])
    elif isinstance(holder, dict):
        holder[f"{key}-x"] = holder.pop(key)
    else:
        holder.reverse()
    return how, changed


@pytest.fixture(scope="module")
def summaries() -> dict[str, dict[str, Any]]:
    return {
        "run": make_run(n=8, steps=4, probe_steps=2),
        "run that is not finished": make_run("grpo", n=8, steps=4, stages=2),
        "comparison": make_comparison(("sft", "sdft"), seeds=(0, 1), n=8, steps=4),
    }


def _reported(folder: Path) -> str:
    """What the commands make of the summary in a run directory."""
    output = folder / "out.html"
    output.unlink(missing_ok=True)
    try:
        api.report(folder, output)
        summary_as_text(read_summary(folder / "summary.json"))
    finally:
        left = {path.name for path in folder.iterdir()} - {"summary.json"}
    assert left == {"out.html"}
    assert output.read_text(encoding="utf-8").rstrip().endswith("</html>")
    return "read"


def test_the_summaries_that_are_altered_are_reported(tmp_path: Path, summaries: dict[str, dict[str, Any]]) -> None:
    for summary in summaries.values():
        (tmp_path / "summary.json").write_text(json.dumps(summary))
        _reported(tmp_path)


@pytest.mark.torture
def test_altered_summaries_are_reported_or_refused_in_one_clear_line(
    tmp_path: Path, summaries: dict[str, dict[str, Any]]
) -> None:
    search, generator = Search("summaries", seconds=30), random.Random(1)
    kinds = list(summaries)
    for count in range(amount(60, 700)):
        kind = kinds[count % len(kinds)]
        path = _place(summaries[kind], generator)
        how, changed = _altered(summaries[kind], path, generator)
        (tmp_path / "summary.json").write_text(json.dumps(changed))
        search.attempt(kind, f"{'.'.join(map(str, path))} {how}", lambda: _reported(tmp_path))
    search.conclude()


def test_files_that_are_no_summary_are_refused_in_one_clear_line(
    tmp_path: Path, summaries: dict[str, dict[str, Any]]
) -> None:
    search, path = Search("summaries", seconds=5), tmp_path / "summary.json"
    for kind, summary in summaries.items():
        for name, make in RAW.items():
            text = json.dumps(summary)
            if (damaged := make(text)) == text.encode():
                continue
            path.write_bytes(damaged)
            if search.attempt(f"{kind}, file", name, lambda: _reported(tmp_path)) == "read":
                search.blame(f"{kind}, file", name, "is read")
        for version in VERSIONS:
            path.write_text(json.dumps(summary | {"schema_version": version}))
            if search.attempt(f"{kind}, version", repr(version), lambda: _reported(tmp_path)) == "read":
                search.blame(f"{kind}, version", repr(version), "is read")
    search.conclude()


def test_what_is_no_file_is_refused_in_one_clear_line(tmp_path: Path) -> None:
    search, path = Search("summaries", seconds=5), tmp_path / "summary.json"
    os.mkfifo(path)
    search.attempt("no file", "pipe", lambda: read_summary(path))
    path.unlink()
    for name, target in {"loop": "summary.json", "device": "/dev/zero", "nowhere": "nowhere", "folder": "."}.items():
        path.symlink_to(target)
        search.attempt("no file", name, lambda: read_summary(path))
        path.unlink()
    search.conclude()
    assert search.refused == search.tried


def test_a_newer_summary_says_so(tmp_path: Path, summaries: dict[str, dict[str, Any]]) -> None:
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(summaries["run"] | {"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(RunError, match="is of a newer version of holdfast"):
        read_summary(path)
