"""`holdfast.store.run_directory`: what is written is read again as it was, and a change is noticed."""

from pathlib import Path

import pytest

from holdfast.errors import RunError
from holdfast.store.run_directory import RunDirectory


def test_names_of_files_may_have_any_bytes(tmp_path: Path) -> None:
    """The command line of a run, which its manifest holds, may name a file in Latin-1."""
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    content = {"command": ["holdfast", "run", "caf\udce9.yaml", "é"]}
    directory.write_json(directory.manifest, content)
    assert RunDirectory(directory.path).read_checked(directory.manifest) == content
    directory.manifest.write_bytes(directory.manifest.read_bytes().replace(b"holdfast", b"Holdfast"))
    with pytest.raises(RunError, match="has changed since the run wrote it"):
        RunDirectory(directory.path).read_checked(directory.manifest)
    directory.lock.release()
