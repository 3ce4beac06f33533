"""`holdfast.cli.options`: files that a command writes replace regular files alone, and are refused before any work."""

import os
from pathlib import Path

import pytest

from commands import Commands

COMMANDS = (
    ("report", "DIR", "--output"),
    ("eval", "CONFIG", "--json"),
    ("check", "CONFIG", "--json"),
    ("advise", "CONFIG", "--json"),
    ("gate", "A", "B", "--json"),
    ("gate", "A", "B", "--junit"),
    ("gate", "A", "B", "--markdown"),
    ("drift", "A", "B", "--json"),
    ("responses", "A", "B", "P", "--json"),
    ("artifacts", "A", "B", "P", "--json"),
    ("blend", "A", "B", "-o", "OUT", "--json"),
    ("rewrite", "CONFIG", "-o", "OUT", "--json"),
    ("findings", "--json"),
    ("findings", "--page"),
    ("findings", "--keep"),
    ("front", "--json"),
    ("front", "--page"),
    ("front", "--keep"),
)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("kind", ["a device", "a folder", "a FIFO", "a symbolic link"])
def test_only_a_regular_file_is_replaced(
    command: Commands, tmp_path: Path, arguments: tuple[str, ...], kind: str
) -> None:
    path = Path("/dev/full") if kind == "a device" else tmp_path / "out"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a symbolic link":
        path.symlink_to("/dev/null")
    outcome = command(*arguments, path)
    assert outcome.code == 2
    assert outcome.err == (
        f"holdfast: error: {path}: is {kind}, and only a regular file is replaced (name another file)\n"
    )
