"""The run directory: paths and logs of a run. A killed run leaves no half-written file.

docs/run-directory.md describes the files.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from holdfast.errors import RunError
from holdfast.store.files import HALF_WRITTEN

LOGS = ("metrics.jsonl", "probes.jsonl", "rollouts.jsonl", "decisions.jsonl", "discarded.jsonl")
"""Logs that grow line by line. A resumed run cuts them back to their size at its checkpoint."""


class RunDirectory:
    """Paths and logs of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

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

        An unfinished configuration file does not count: a run leaves it if it is killed while it creates the directory.

        Raises:
            RunError: the directory is not empty, or is a file.
        """
        if not self.path.exists():
            return
        unfinished = f".{self.config.name}."
        if not self.path.is_dir() or any(not entry.name.startswith(unfinished) for entry in self.path.iterdir()):
            fix = "resume it with `holdfast resume`, choose another output_dir, or remove it"
            raise RunError("the directory exists and is not empty", where=str(self.path), fix=fix)

    def sweep(self) -> None:
        """Remove unfinished files and folders of a killed process."""
        for pattern in HALF_WRITTEN:
            for path in self.path.glob(pattern):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def create(self) -> None:
        """Create the directory.

        Raises:
            RunError: the directory is not empty, or cannot be created.
        """
        self.refuse_existing()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot be created: {error.strerror}", where=str(self.path)) from None

    def rewriting(self) -> Iterator[dict[str, Any]]:
        """What became of rewritten demonstrations, by stage, without the texts."""
        for path in sorted(self.path.glob("rewritten/stage-*.json"), key=lambda path: int(path.stem.split("-")[1])):
            record = json.loads(path.read_text(encoding="utf-8"))
            yield {key: value for key, value in record.items() if key != "rewrites"}

    def append(self, log: str, record: Mapping[str, Any]) -> None:
        """Add one line to a log."""
        with (self.path / log).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")

    def lengths(self) -> dict[str, int]:
        """Sizes of the logs in bytes. A checkpoint keeps them for `cut`."""
        return {log: (self.path / log).stat().st_size if (self.path / log).exists() else 0 for log in LOGS}

    def cut(self, lengths: Mapping[str, int]) -> None:
        """Cut the logs back to earlier sizes."""
        for log in LOGS:
            file = self.path / log
            if file.exists():
                os.truncate(file, lengths.get(log, 0))

    def records(self, log: str) -> Iterator[dict[str, Any]]:
        """The complete lines of a log. A line that a kill cut short is left out."""
        file = self.path / log
        if not file.exists():
            return
        whole = file.read_text(encoding="utf-8").rpartition("\n")[0]
        for line in whole.split("\n") if whole else ():
            yield json.loads(line)
