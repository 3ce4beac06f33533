"""`holdfast.store.disk`: errors of writing in one line that says how much is missing where."""

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import RunError
from holdfast.store.disk import error_number, mount_point, require_room, size_text, writing


@pytest.mark.parametrize(("size", "text"), [(999, "999 bytes"), (1000, "1.0 kB"), (1_000_001, "1.1 MB")])
def test_sizes_are_rounded_up(size: int, text: str) -> None:
    assert size_text(size) == text


def _free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    whole = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: whole._replace(free=size))


def test_missing_room_is_said_before_something_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _free(monkeypatch, 3_000_000)
    require_room(3_000_000, tmp_path / "not" / "there", "stage 1")
    with pytest.raises(RunError) as raised:
        require_room(5_000_000, tmp_path / "not" / "there", "stage 1")
    assert str(raised.value) == (
        f"{tmp_path}/not/there: stage 1 needs 5.0 MB of disk space, and 3.0 MB are free on {mount_point(tmp_path)} "
        f"(free 2.0 MB on {mount_point(tmp_path)})"
    )


class RustError(Exception):
    """As safetensors and tokenizers raise them: no OSError."""


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(28, "No space left on device"), errno.ENOSPC),
        (RustError("Error while serializing: I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (RustError("No space left on device (os error 28)"), errno.ENOSPC),
        (RustError("invalid header"), None),
        (ValueError("28"), None),
    ],
)
def test_errors_of_the_system_are_found_whoever_raised_them(error: Exception, number: int | None) -> None:
    assert error_number(error) == number


@pytest.mark.parametrize(
    ("error", "says", "asks_for_room"),
    [
        (OSError(errno.ENOSPC, "x"), "it needs 5.0 MB and 3.0 MB are free", True),
        (RustError("I/O error: No space left on device (os error 28)"), "it needs 5.0 MB and 3.0 MB are free", True),
        (OSError(errno.EDQUOT, "x"), "quota", True),
        (OSError(errno.EACCES, "x", "/else/where"), "/else/where: the model cannot be written: Permission", False),
        (OSError(errno.EROFS, "x"), "read-only", False),
        (OSError(errno.ENOENT, "x"), "removed meanwhile", False),
        (OSError(errno.EIO, "x"), "check the disk", False),
        (OSError(errno.EFBIG, "x"), "ulimit", False),
    ],
)
def test_only_where_room_is_missing_room_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str, asks_for_room: bool
) -> None:
    _free(monkeypatch, 3_000_000)
    with pytest.raises(RunError) as raised, writing("the model", tmp_path, 5_000_000):
        raise error
    assert says in str(raised.value)
    assert ("(free " in str(raised.value)) == asks_for_room


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    failure: Any
    for failure in (ValueError("no"), RunError("clear already"), RustError("invalid header"), KeyboardInterrupt()):
        with pytest.raises(type(failure)) as raised, writing("the model", tmp_path):
            raise failure
        assert raised.value is failure
