"""`holdfast.store.files`: only regular files are replaced, in one step, with the permissions that the umask leaves."""

import os
import stat
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from holdfast.errors import RunError
from holdfast.store.file_kinds import kind_at
from holdfast.store.files import whole_folder, write_bytes, write_json, write_text


def _special(kind: str, path: Path) -> None:
    target = path.with_name("target")
    target.write_text("kept")
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to(target if kind == "a symbolic link" else path.with_name("nowhere"))


@pytest.mark.parametrize("kind", ["a FIFO", "a folder", "a symbolic link", "a dangling symbolic link"])
def test_nothing_but_a_regular_file_is_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out.json"
    _special(kind, path)
    with pytest.raises(RunError, match=kind.replace("dangling ", "")):
        write_text(path, "new")
    assert kind_at(path) == kind.replace("dangling ", "")
    assert (tmp_path / "target").read_text() == "kept"
    assert {each.name for each in tmp_path.iterdir()} == {"out.json", "target"}


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(RunError, match="/dev/full: is a device"):
        write_text(Path("/dev/full"), "new")
    assert kind_at("/dev/full") == "a device"


@pytest.mark.parametrize("mask", [0o077, 0o022, 0])
def test_files_and_folders_have_the_permissions_that_the_umask_leaves(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_json(tmp_path / "new" / "out.json", {"a": 1})
        with whole_folder(tmp_path / "model") as folder:
            (folder / "config.json").write_text("{}")
            save_file({"a": torch.zeros(2)}, folder / "model.safetensors")
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        most = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == most & ~mask, path


def test_readers_see_the_old_text_or_the_new_one(tmp_path: Path) -> None:
    path, seen = tmp_path / "out", set()
    texts = ["a" * 100_000, "b" * 100_000]
    write_text(path, texts[0])

    def read() -> None:
        while not done:
            seen.add(path.read_text())

    done = False
    reader = threading.Thread(target=read)
    reader.start()
    for number in range(60):
        write_text(path, texts[number % 2])
    done = True
    reader.join()
    assert seen <= set(texts)


def test_what_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out"
    write_bytes(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"out: the file cannot be written: No space left on device, it needs 3 bytes"):
        write_bytes(path, b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
    assert path.read_bytes() == b"old"


def test_a_folder_replaces_only_a_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a symbolic link"), whole_folder(tmp_path / "model"):
        raise AssertionError("not reached")
    assert not list((tmp_path / "elsewhere").iterdir())
