"""The run directory: paths and logs of a run. A killed run leaves no half-written file.

docs/run-directory.md describes the files.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from holdfast.errors import RunError
from holdfast.store import checksums, lock
from holdfast.store.checksums import Checksums, digest_of_file
from holdfast.store.durable import make_folder
from holdfast.store.file_kinds import FOLDER, REGULAR, kind_at
from holdfast.store.files import HALF_WRITTEN, as_json_text, encoded, read_json, write_bytes
from holdfast.store.lock import RunLock
from holdfast.store.logs import LOGS, RunLogFiles

_FOLDERS = (
    "checkpoints",
    "drift",
    "evals",
    "guides",
    "kept-weights",
    "models",
    "responses",
    "rewritten",
    "runs",
)
"""Folders that a run or a comparison writes."""

_FILES = (
    *LOGS,
    "config.yaml",
    "manifest.json",
    "recover.json",
    "report.html",
    "summary.json",
    checksums.NAME,
    lock.NAME,
)
"""Files that a run or a comparison writes."""


class RunDirectory:
    """Paths and logs of one run.

    Attributes:
        lock: held by the process that writes.
        logs: the files that grow line by line.
        checksums: of the files that are written in one step.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.lock, self.logs, self.checksums = RunLock(self.path), RunLogFiles(self.path), Checksums(self.path)

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def recovery(self) -> Path:
        return self.path / "recover.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def kept_weights(self) -> Path:
        return self.path / "kept-weights"

    def checkpoint(self, number: int) -> Path:
        return self.checkpoints / f"{number:08d}"

    def model(self, stage: int) -> Path:
        return self.path / "models" / f"stage-{stage}"

    def evaluation(self, stage: int) -> Path:
        return self.path / "evals" / f"stage-{stage}.json"

    def responses(self, stage: int) -> Path:
        return self.path / "responses" / f"stage-{stage}.json"

    def near_future_answers(self, name: str) -> Path:
        # Earlier versions called these answers guides, and the search for them scouting. The names that a run stores
        # stay: the folder `guides/`; `scouting`, `scout` and `guides` in checkpoints; `guide_from` in decisions.jsonl;
        # `guided_fraction` and `guided_reward` in metrics.jsonl; `guide` and `guidance` in summary.json. The names of
        # random draws ("guide", "guides", "guided") stay too, because runs must give the same numbers.
        return self.path / "guides" / f"{name}.json"

    def rewritten(self, stage: int) -> Path:
        return self.path / "rewritten" / f"stage-{stage}.json"

    def drift(self, stage: int) -> Path:
        return self.path / "drift" / f"stage-{stage}.json"

    def refuse_existing(self) -> None:
        """Check that the directory is missing or empty.

        An unfinished configuration file does not count, nor do its checksum and a lock: a run leaves them if it is
        killed while it creates the directory.

        Raises:
            RunError: the directory is not empty, or is a file, or a run is writing it.
        """
        if not self.path.exists():
            return
        unfinished = (f".{self.config.name}.", f".{checksums.NAME}.")

        def counts(entry: Path) -> bool:
            return not entry.name.startswith(unfinished) and entry.name not in (lock.NAME, checksums.NAME)

        if not self.path.is_dir() or any(counts(entry) for entry in self.path.iterdir()):
            if not self.lock.is_held:
                self.lock.refuse_live()
            fix = "resume it with `holdfast resume`, choose another output_dir, or remove it"
            raise RunError("the directory exists and is not empty", where=str(self.path), fix=fix)

    def refuse_special(self) -> None:
        """Check that everything that a run writes is a regular file or a folder of this directory.

        A symbolic link could lead anywhere, and opening a FIFO could wait for ever.

        Raises:
            RunError: something else is there.
        """
        for name in _FILES:
            self._refuse_unless(REGULAR, self.path / name)
        for name in _FOLDERS:
            folder = self.path / name
            self._refuse_unless(FOLDER, folder)
            if name == "runs" and folder.exists():
                for run in folder.iterdir():  # of a comparison; what is in them is checked when they are opened
                    self._refuse_unless(FOLDER, run)
                continue
            for root, folders, files in os.walk(folder):
                for each in folders:
                    self._refuse_unless(FOLDER, Path(root, each))
                for each in files:
                    self._refuse_unless(REGULAR, Path(root, each))

    def _refuse_unless(self, expected: str, path: Path) -> None:
        if (kind := kind_at(path)) not in ("", expected):
            fix = f"put {expected} of this run in its place: a run writes only into its own directory"
            raise RunError(f"is {kind}, not {expected}", where=str(path), fix=fix)

    def sweep(self) -> None:
        """Remove unfinished files and folders of a killed process."""
        for pattern in HALF_WRITTEN:
            for path in self.path.glob(pattern):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def create(self) -> None:
        """Create the directory, and take its lock.

        Raises:
            RunError: the directory is not empty, or cannot be created.
        """
        self.refuse_existing()
        try:
            make_folder(self.path)
        except OSError as error:
            raise RunError(f"cannot be created: {error.strerror}", where=str(self.path)) from None
        self.lock.acquire()
        try:
            self.refuse_existing()  # again: another process may have been faster
        except RunError:
            self.lock.release()
            raise

    def open_to_write(self) -> None:
        """Take the lock of an existing directory, after checking that everything in it is its own.

        Raises:
            RunError: another process writes it, or something in it leads elsewhere.
        """
        self.refuse_special()
        self.lock.acquire()
        self.checksums.reread()

    def write_text(self, path: Path, text: str) -> None:
        """Replace a file of this directory in one step, and note its checksum.

        Raises:
            RunError: it cannot be written, or the directory was removed meanwhile.
        """
        self.lock.check()
        content = encoded(text)
        self.checksums.expect({str(path.relative_to(self.path)): hashlib.sha256(content).hexdigest()})
        write_bytes(path, content)

    def write_json(self, path: Path, value: Any) -> None:
        """Write plain data as JSON; see `write_text`."""
        self.write_text(path, as_json_text(value))

    def note_folder(self, folder: Path) -> None:
        """Note the checksums of all files in a folder of this directory that was just written."""
        name = str(folder.relative_to(self.path))
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        self.checksums.forget(name)
        self.checksums.expect({str(path.relative_to(self.path)): digest_of_file(path) for path in files})

    def read_checked(self, path: Path) -> Any:
        """Read a JSON file of this directory that `write_json` wrote.

        Raises:
            RunError: it is missing, is no JSON object, or has changed since.
        """
        if kind_at(path) and (fault := self.checksums.fault(str(path.relative_to(self.path)))):
            raise RunError(fault, where=str(path), fix="restore it from a backup")
        content = read_json(path)
        if not isinstance(content, dict):
            raise RunError("is damaged: it is not a JSON object", where=str(path), fix="restore it from a backup")
        return content

    def check_summary(self) -> None:
        """Check that the summary, if there is one, is what the run wrote.

        Raises:
            RunError: it has changed.
        """
        if kind_at(self.summary) and (fault := self.checksums.fault(self.summary.name)):
            fix = "delete the file and run `holdfast resume` on its folder, which writes it again"
            raise RunError(fault, where=str(self.summary), fix=fix)

    def rewriting(self) -> Iterator[dict[str, Any]]:
        """What became of rewritten demonstrations, by stage, without the texts."""
        for path in sorted(self.path.glob("rewritten/stage-*.json"), key=lambda path: int(path.stem.split("-")[1])):
            record = self.read_checked(path)
            yield {key: value for key, value in record.items() if key != "rewrites"}

    def append(self, log: str, record: Mapping[str, Any]) -> None:
        """Add one line to a log.

        Raises:
            RunError: it cannot be written, or the directory was removed meanwhile.
        """
        self.lock.check()
        self.logs.append(log, record)

    def lengths(self) -> dict[str, int]:
        """Sizes of the logs in bytes. A checkpoint keeps them for `cut`."""
        return self.logs.lengths()

    def cut(self, lengths: Mapping[str, int]) -> None:
        """Cut the logs back to earlier sizes."""
        self.logs.cut(lengths)

    def records(self, log: str) -> Iterator[dict[str, Any]]:
        """The complete lines of a log. A line that a kill cut short is left out.

        Raises:
            RunError: a line is damaged.
        """
        return self.logs.records(log)
