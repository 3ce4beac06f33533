"""`holdfast.store.checksums`: every file that was written in one step is known by its SHA-256."""

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from holdfast.store.checksums import Checksums


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_file_before_and_after_it_is_replaced_are_right_and_another_is_not(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")
    Checksums(tmp_path).expect({"a.json": _digest("old")})
    Checksums(tmp_path).expect({"a.json": _digest("new")})
    assert Checksums(tmp_path).fault("a.json") == ""
    file.write_text("new")
    assert Checksums(tmp_path).fault("a.json") == ""
    file.write_text("neW")
    assert Checksums(tmp_path).fault("a.json") == "has changed since the run wrote it"
    file.unlink()
    assert Checksums(tmp_path).fault("a.json") == "is missing"
    assert Checksums(tmp_path).fault("other.json") == ""


def test_only_the_last_two_contents_are_right(tmp_path: Path) -> None:
    for text in ("one", "two", "three", "three"):
        Checksums(tmp_path).expect({"a.json": _digest(text)})
    faults = {}
    for text in ("one", "two", "three"):
        (tmp_path / "a.json").write_text(text)
        faults[text] = Checksums(tmp_path).fault("a.json")
    assert faults["one"]
    assert not faults["three"]


@pytest.mark.parametrize(
    "damage",
    ["", "{}", "[]", "null", '{"files": {}, "checkpoint": false}', "flip", pytest.param("[" * 9999, id="deep")],
)
def test_damaged_checksums_are_named_and_count_for_nothing(tmp_path: Path, damage: str) -> None:
    Checksums(tmp_path).expect({"a.json": _digest("a")})
    path = tmp_path / "checksums.json"
    path.write_text(damage if damage != "flip" else path.read_text().replace("a.json", "b.json"))
    with pytest.warns(UserWarning, match=r"checksums.json: is damaged"):
        assert Checksums(tmp_path).fault("a.json") == ""


@pytest.mark.parametrize("name", ["checksums.json", "manifest.json"])
def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert list(Checksums(tmp_path).names()) == []
    assert len(seen) == (name == "checksums.json")


@pytest.mark.parametrize("files", [5, {"a": 5}, {"a": [1]}, None])
def test_what_a_stranger_wrote_with_its_own_digest_is_damaged_too(tmp_path: Path, files: Any) -> None:
    kept = {"files": files, "checkpoint": False}
    own = _digest(json.dumps(kept, sort_keys=True))
    (tmp_path / "checksums.json").write_text(json.dumps({**kept, "sha256": own}))
    with pytest.warns(UserWarning, match=r"checksums.json: is damaged"):
        assert Checksums(tmp_path).fault("a") == ""


@pytest.mark.parametrize("writes", [True, False])
def test_missing_checksums_are_named_if_the_run_wrote_some(tmp_path: Path, writes: bool) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"checksums": True} if writes else {}))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert list(Checksums(tmp_path).names()) == []
    assert len(seen) == writes


def test_a_folder_is_forgotten_and_a_checkpoint_remembered(tmp_path: Path) -> None:
    checksums = Checksums(tmp_path)
    checksums.expect({"models/stage-1/a": _digest(""), "models/stage-10/a": _digest("")})
    checksums.forget("models/stage-1")
    checksums.note_checkpoint()
    again = Checksums(tmp_path)
    assert list(again.names()) == ["models/stage-10/a"]
    assert again.has_checkpoint
