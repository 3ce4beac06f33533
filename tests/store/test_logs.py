"""`holdfast.store.logs`: lines are appended, cut back and checked; a short log is never filled up."""

import os
from pathlib import Path

import pytest

from holdfast.errors import RunError
from holdfast.store.logs import RunLogFiles


def _logs(folder: Path, lines: int) -> RunLogFiles:
    logs = RunLogFiles(folder)
    for number in range(lines):
        logs.append("metrics.jsonl", {"step": number, "text": "ü"})
    return logs


def test_a_log_is_cut_back_to_a_line_and_grows_again(tmp_path: Path) -> None:
    logs = _logs(tmp_path, 2)
    kept = logs.lengths()
    digests = logs.digests(kept)
    logs.append("metrics.jsonl", {"step": 2})
    assert logs.digests(logs.lengths()) != digests
    logs.cut(kept)
    assert logs.fault(kept, digests) is None
    logs.append("metrics.jsonl", {"step": 9})
    assert logs.digests(logs.lengths()) == RunLogFiles(tmp_path).digests(logs.lengths())
    assert [record["step"] for record in logs.records("metrics.jsonl")] == [0, 1, 9]
    logs.cut({})
    assert list(logs.records("metrics.jsonl")) == []


def test_a_short_log_is_named_and_never_filled(tmp_path: Path) -> None:
    logs = _logs(tmp_path, 3)
    lengths, path = logs.lengths(), tmp_path / "metrics.jsonl"
    digests = logs.digests(lengths)
    path.write_bytes(path.read_bytes()[:-5])
    fault = RunLogFiles(tmp_path).fault(lengths, digests)
    size = lengths["metrics.jsonl"]
    assert str(fault) == f"{path}: is cut short: {size - 5} of the {size} bytes that the checkpoint says"
    with pytest.raises(RunError, match="is cut short"):
        logs.cut(lengths)
    assert b"\0" not in path.read_bytes()
    path.unlink()
    assert "is missing" in str(RunLogFiles(tmp_path).fault(lengths, digests))


def test_a_changed_log_is_named_and_later_lines_do_not_count(tmp_path: Path) -> None:
    logs = _logs(tmp_path, 3)
    lengths, path = logs.lengths(), tmp_path / "metrics.jsonl"
    digests = logs.digests(lengths)
    logs.append("metrics.jsonl", {"step": 3})
    assert RunLogFiles(tmp_path).fault(lengths, digests) is None
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"step": 1', b'"step": 7'))
    assert str(RunLogFiles(tmp_path).fault(lengths, digests)) == f"{path}: has changed since the run wrote it"
    assert RunLogFiles(tmp_path).fault(lengths, {}) is None, "earlier versions wrote no digests"


def test_cutting_leaves_another_name_of_the_file_whole(tmp_path: Path) -> None:
    logs = _logs(tmp_path, 3)
    os.link(tmp_path / "metrics.jsonl", tmp_path / "backup")
    before = (tmp_path / "backup").read_bytes()
    logs.cut(logs.lengths())
    logs.append("metrics.jsonl", {"step": 3})
    logs.cut({})
    assert (tmp_path / "backup").read_bytes() == before


@pytest.mark.parametrize("line", ["{", "[]", "1", '{"step": 1', "\0\0\0", pytest.param("[" * 9999, id="deep")])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "probes.jsonl").write_text('{"step": 1}\n' + line + '\n{"step": 3}\n')
    with pytest.raises(RunError, match=r"probes.jsonl:2: the line is damaged"):
        list(RunLogFiles(tmp_path).records("probes.jsonl"))


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "probes.jsonl").write_bytes(b'{"step": 1}\n{"text": "\xc3')
    assert list(RunLogFiles(tmp_path).records("probes.jsonl")) == [{"step": 1}]


def test_a_log_that_is_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "probes.jsonl")
    with pytest.raises(RunError, match=r"probes.jsonl: cannot be read: it is a FIFO, not a regular file"):
        list(RunLogFiles(tmp_path).records("probes.jsonl"))


def test_half_a_character_is_written_as_json_writes_it(tmp_path: Path) -> None:
    logs = RunLogFiles(tmp_path)
    logs.append("decisions.jsonl", {"name": "caf\udce9 é"})
    assert list(logs.records("decisions.jsonl")) == [{"name": "caf\udce9 é"}]


def test_a_log_that_is_a_link_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "decisions.jsonl").symlink_to(tmp_path / "target")
    with pytest.raises(RunError, match="is a symbolic link"):
        RunLogFiles(tmp_path).append("decisions.jsonl", {})
    assert (tmp_path / "target").read_text() == "kept"
