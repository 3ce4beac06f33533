"""`checksums.json` of a run directory: the SHA-256 of every file that was written in one step and is read again.

It holds its own SHA-256 too. Without it, or if it is damaged, the other files count as they are.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from holdfast.errors import RunError
from holdfast.store.file_kinds import kind_at
from holdfast.store.files import read_json, write_json

NAME = "checksums.json"


class Checksums:
    """What the files of a run directory must be like. For the process that writes them.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / NAME
        self._kept: dict[str, Any] | None = None

    def expect(self, digests: Mapping[str, str]) -> None:
        """Note the SHA-256 of files, by their names within the folder, that are about to be replaced.

        A kill before they are leaves the old ones, which stay right until then.
        """
        files = self._read()["files"]
        for name, digest in digests.items():
            before = files.get(name, [])[:1]
            files[name] = [digest, *(each for each in before if each != digest)]
        self._write()

    def forget(self, folder: str) -> None:
        """Forget the files in a folder of the run directory, as it is about to be replaced."""
        files = self._read()["files"]
        for name in [name for name in files if name.startswith(f"{folder}/")]:
            del files[name]

    def names(self) -> Iterator[str]:
        """All files that are noted, by their names within the folder."""
        yield from self._read()["files"]

    def fault(self, name: str) -> str:
        """What is wrong with a file: "is missing", "has changed since the run wrote it", or "" if nothing is known."""
        digests = self._read()["files"].get(name)
        if digests is None:
            return ""
        path = self._folder / name
        if not path.is_file():
            return "is missing"
        return "" if digest_of_file(path) in digests else "has changed since the run wrote it"

    @property
    def has_checkpoint(self) -> bool:
        """Whether the run has ever saved a checkpoint."""
        return bool(self._read()["checkpoint"])

    def note_checkpoint(self) -> None:
        """Note that the run has saved a checkpoint."""
        if not self.has_checkpoint:
            self._read()["checkpoint"] = True
            self._write()

    def reread(self) -> None:
        """Read the file again when it is next needed: another process may have written it."""
        self._kept = None

    def _read(self) -> dict[str, Any]:
        if self._kept is None:
            self._kept = self._from_file() or {"files": {}, "checkpoint": False}
        return self._kept

    def _from_file(self) -> dict[str, Any] | None:
        if not kind_at(self._path):
            if self._is_expected():
                self._warn("is missing")
            return None
        try:
            kept = read_json(self._path)
            own = kept.pop("sha256")
            is_whole = own == _own_digest(kept) and _has_their_form(kept)
        except (RunError, KeyError, AttributeError, TypeError):
            is_whole = False
        if not is_whole:
            self._warn("is damaged")
            return None
        return dict(kept)

    def _is_expected(self) -> bool:
        """Whether the run's manifest says that it writes checksums. Those of earlier versions did not."""
        try:
            return bool(read_json(self._folder / "manifest.json").get("checksums"))
        except (RunError, AttributeError):
            return False

    def _warn(self, what: str) -> None:
        warnings.warn(f"{self._path}: {what}, so the run's files are taken as they are", stacklevel=2)

    def _write(self) -> None:
        kept = self._read()
        write_json(self._path, {**kept, "sha256": _own_digest(kept)})


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _has_their_form(kept: Mapping[str, Any]) -> bool:
    """Whether digests of files are what they hold: a stranger may have written them, and their own digest too."""
    files = kept.get("files")
    return (
        type(kept.get("checkpoint")) is bool
        and isinstance(files, dict)
        and all(isinstance(each, list) and all(isinstance(digest, str) for digest in each) for each in files.values())
    )


def _own_digest(kept: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
