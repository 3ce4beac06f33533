"""What going back does to the logs of a run: undone steps are copied to discarded.jsonl, and cut from the others."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from holdfast.errors import RunError
from holdfast.store.run_directory import RunDirectory
from holdfast.train.checkpoint import Checkpoint, open_checkpoint

UNDONE_LOGS = ("metrics.jsonl", "probes.jsonl", "rollouts.jsonl")
"""The logs that are cut back. The undone lines of the first two are kept in discarded.jsonl."""


def first_undamaged(directory: RunDirectory, numbers: Iterable[int]) -> tuple[Checkpoint | None, list[str]]:
    """The first undamaged checkpoint among some, or None, and what is wrong with those before it."""
    faults: list[str] = []
    for number in numbers:
        try:
            return open_checkpoint(directory.checkpoint(number)), faults
        except RunError as error:
            faults.append(f"{error.what}, checkpoint {number}")
    return None, faults


def keep_discarded(directory: RunDirectory, lengths: Mapping[str, int], decision: int) -> None:
    """Copy the lines that are about to be cut from the logs to discarded.jsonl.

    Args:
        lengths: of the logs at the checkpoint that the run rolls back to, in bytes.
        decision: index in decisions.jsonl (from 0) of the decision that undoes the lines.
    """
    for log in UNDONE_LOGS[:2]:
        records = directory.records(log)
        for record, end in zip(records, _line_ends(directory.path / log), strict=True):
            if end > lengths[log]:
                directory.append("discarded.jsonl", {"decision": decision, "log": log, "record": record})


def _line_ends(log: Path) -> list[int]:
    """The position after each complete line of a log, in bytes."""
    ends, position = [], 0
    for line in log.read_bytes().splitlines(keepends=True) if log.exists() else ():
        position += len(line)
        if line.endswith(b"\n"):
            ends.append(position)
    return ends


def steps_before(directory: RunDirectory, stage: int) -> int:
    """Optimizer steps that the earlier stages have really taken. A stage that the guard ended early has fewer."""
    taken: dict[int, int] = {}
    for record in directory.records("metrics.jsonl"):
        taken[record["stage"]] = max(taken.get(record["stage"], 0), record["step"])
    return sum(steps for number, steps in taken.items() if number < stage)


def last_step(directory: RunDirectory, stage: int) -> int:
    """The last optimizer step that a stage has taken so far; 0 if it has taken none."""
    steps = (record["step"] for record in directory.records("metrics.jsonl") if record["stage"] == stage)
    return max(steps, default=0)


def cut_lengths(now: Mapping[str, int], checkpoint: Mapping[str, int]) -> dict[str, int]:
    """Lengths of the logs after the run has gone back, in bytes: decisions and discarded steps stay in theirs.

    Args:
        now: current lengths.
        checkpoint: lengths at the checkpoint that the run rolls back to.
    """
    return {log: checkpoint[log] if log in UNDONE_LOGS else length for log, length in now.items()}
