"""The records of all runs: one file each while runs go on, one compressed file to keep. Torch-free."""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from holdfast.errors import RunError
from holdfast.findings.record import VERSION, RunRecord
from holdfast.store.files import read_json, write_bytes, write_json

_SETTINGS = re.compile(r"-(w\d+-[0-9a-f]{10})(\+\w+)?$")


class RecordStore:
    """Finished measurements by name. What is there is not measured again.

    The name of a run ends with its world, a hash of its settings, and what else is measured in it. Runs that agree in
    the first two are one run, whatever their labels. So the record of one serves the other, unless the other measures
    more.

    Args:
        folder: gets one JSON file for each measurement.
        kept: a file that `keep` wrote, to go on from; None for none.

    Raises:
        RunError: the file cannot be read.
    """

    def __init__(self, folder: Path, kept: Path | None = None) -> None:
        self.folder = folder / "records"
        self._kept = {} if kept is None else read_kept(kept)
        self._by_settings: dict[str, str] = {}
        for name in self.names():
            self._note(name)

    def path(self, name: str) -> Path:
        """Where a measurement's file is."""
        return self.folder / f"{name}.json"

    def __contains__(self, name: str) -> bool:
        return self._has(name) or settings_in(name) in self._by_settings

    def __getitem__(self, name: str) -> dict[str, Any]:
        """A measurement.

        Raises:
            KeyError: there is none of this name.
        """
        if not self._has(name):
            name = self._by_settings.get(settings_in(name) or "", name)
        if self.path(name).exists():
            data: dict[str, Any] = read_json(self.path(name))
            return data
        return dict(self._kept[name])

    def run(self, name: str) -> RunRecord:
        """A run's record. Errors are those of indexing."""
        return RunRecord(self[name])

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Add a measurement."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.path(name), dict(data))
        self._note(name)

    def names(self) -> list[str]:
        """All names, sorted."""
        here = {path.stem for path in self.folder.glob("*.json")} if self.folder.is_dir() else set()
        return sorted(here | set(self._kept))

    def keep(self, file: Path) -> None:
        """Write everything into one compressed file of JSON lines. The same records give the same bytes."""
        lines = "".join(json.dumps({"name": name, **self[name]}, sort_keys=True) + "\n" for name in self.names())
        write_bytes(file, gzip.compress(lines.encode(), mtime=0))

    def _has(self, name: str) -> bool:
        return name in self._kept or self.path(name).exists()

    def _note(self, name: str) -> None:
        for key in {settings_in(name), settings_in(name, alone=True)} - {None}:
            self._by_settings.setdefault(str(key), name)


def settings_in(name: str, *, alone: bool = False) -> str | None:
    """World and hash of the settings in a run's name, with what else is measured in it; None for what is no run.

    Args:
        alone: without what else is measured.
    """
    found = _SETTINGS.search(name)
    return None if found is None else found[1] + ("" if alone else found[2] or "")


def read_kept(file: Path) -> dict[str, dict[str, Any]]:
    """The measurements in a file that `RecordStore.keep` wrote, by name.

    Raises:
        RunError: the file is missing or is no such file.
    """
    try:
        return {record.pop("name"): record for record in _lines(file)}
    except FileNotFoundError:
        raise RunError("there is no such file of records", where=str(file), fix="check the path") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RecursionError, zlib.error) as error:
        fix = "name a file that `holdfast findings --keep` wrote"
        raise RunError(f"is no file of records: {error}", where=str(file), fix=fix) from None


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    for line in gzip.decompress(file.read_bytes()).decode().splitlines():
        record: dict[str, Any] = json.loads(line)
        if record.get("version", VERSION) == VERSION:
            yield record
