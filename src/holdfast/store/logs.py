"""The logs of a run directory, which grow line by line: appended, flushed, cut back, and checked by SHA-256."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from holdfast.errors import RunError
from holdfast.store.disk import writing
from holdfast.store.durable import flush, flush_folder
from holdfast.store.file_kinds import kind_at
from holdfast.store.files import encoded, refuse_special, write_bytes
from holdfast.store.regular import refuse_irregular

LOGS = ("metrics.jsonl", "probes.jsonl", "rollouts.jsonl", "decisions.jsonl", "discarded.jsonl")
"""Logs that grow line by line. A resumed run cuts them back to their size at its checkpoint."""


class RunLogFiles:
    """The log files in a run directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hashed: dict[str, tuple[int, Any]] = {}
        """By log: bytes from its beginning, and their running SHA-256, so that growing logs are not read again."""

    def append(self, log: str, record: Mapping[str, Any]) -> None:
        """Add one line to a log.

        Raises:
            RunError: it cannot be written, or is no regular file.
        """
        path = self._folder / log
        line = encoded(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        refuse_special(path)
        with writing("a line of the log", path, len(line)), os.fdopen(os.open(path, flags, 0o666), "wb") as file:
            file.write(line)

    def records(self, log: str) -> Iterator[dict[str, Any]]:
        """The complete lines of a log. A line that a kill cut short is left out.

        Raises:
            RunError: a line is damaged.
        """
        path = self._folder / log
        if not kind_at(path):
            return
        refuse_irregular(path, RunError)
        whole = path.read_bytes().rpartition(b"\n")[0]
        for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                fix = "restore the file from a backup, or run again in another directory"
                raise RunError("the line is damaged", where=f"{path}:{number}", fix=fix)
            yield record

    def lengths(self) -> dict[str, int]:
        """Sizes of the logs in bytes. A checkpoint keeps them for `cut`."""
        return {log: self._size(log) for log in LOGS}

    def digests(self, lengths: Mapping[str, int]) -> dict[str, str]:
        """SHA-256 of the beginnings of the logs.

        Args:
            lengths: bytes of each beginning. No log is shorter.
        """
        return {log: self._digest(log, length) for log, length in lengths.items() if length}

    def flush(self) -> None:
        """Have the system write the logs to disk now. A checkpoint that names their sizes is written after this."""
        for log in LOGS:
            path = self._folder / log
            if path.exists():
                with writing("the log", path):
                    flush(path)
        flush_folder(self._folder)

    def fault(self, lengths: Mapping[str, int], digests: Mapping[str, str]) -> RunError | None:
        """What is wrong with the logs up to a checkpoint, which later lines do not concern; None if nothing is.

        Args:
            lengths, digests: as the checkpoint holds them. Earlier versions wrote no digests.
        """
        for log, length in lengths.items():
            path, size = self._folder / log, self._size(log)
            if kind_at(path) == "" and length:
                return RunError(f"is missing, and the checkpoint says that it has {length} bytes", where=str(path))
            if size < length:
                return RunError(f"is cut short: {size} of the {length} bytes that the checkpoint says", where=str(path))
            if log in digests and self._digest(log, length) != digests[log]:
                return RunError("has changed since the run wrote it", where=str(path))
        return None

    def cut(self, lengths: Mapping[str, int]) -> None:
        """Cut the logs back to earlier sizes. None of them may be shorter.

        What is kept is written into a new file: another name of the old one, such as a backup's hard link, stays whole.
        """
        for log in LOGS:
            path, length = self._folder / log, lengths.get(log, 0)
            if not path.exists():
                continue
            status = path.stat()
            if status.st_size < length:
                raise RunError(f"is cut short: {status.st_size} of {length} bytes", where=str(path))
            if status.st_size > length or status.st_nlink > 1:
                with path.open("rb") as file:
                    write_bytes(path, file.read(length))
                self._hashed.pop(log, None)

    def _size(self, log: str) -> int:
        path = self._folder / log
        return path.stat().st_size if path.exists() else 0

    def _digest(self, log: str, length: int) -> str:
        done, running = self._hashed.get(log, (0, hashlib.sha256()))
        if done > length:
            done, running = 0, hashlib.sha256()
        with (self._folder / log).open("rb") as file:
            file.seek(done)
            while done < length and (part := file.read(min(2**20, length - done))):
                running.update(part)
                done += len(part)
        self._hashed[log] = done, running
        return str(running.hexdigest())
