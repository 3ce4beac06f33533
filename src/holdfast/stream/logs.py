"""Back to the healthy checkpoint: what the logs hold of the steps that are undone is kept aside.

A kill at any moment leaves a run that comes to the same: until the new checkpoint is in its place, the newest one is
from before the decision, which is then made again; from then on the logs are cut to where it stands.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from holdfast.errors import RunError
from holdfast.store.run_directory import RunDirectory
from holdfast.train.checkpoint import Checkpoint, open_checkpoint

UNDONE_LOGS = ("metrics.jsonl", "probes.jsonl", "rollouts.jsonl")
"""What a roll-back cuts back to its checkpoint; the lines of the first two are kept in discarded.jsonl."""


def first_whole(directory: RunDirectory, numbers: Iterable[int]) -> tuple[Checkpoint | None, list[str]]:
    """The first of some checkpoints that is whole, None where none is, and what is wrong with those before it."""
    faults: list[str] = []
    for number in numbers:
        try:
            return open_checkpoint(directory.checkpoint(number)), faults
        except RunError as error:
            faults.append(f"{error.what}, checkpoint {number}")
    return None, faults


def keep_aside(directory: RunDirectory, lengths: Mapping[str, int], decision: int) -> int:
    """Copy what is about to be cut off from the logs into discarded.jsonl; the number of optimizer steps in it.

    Args:
        lengths: of the logs at the checkpoint, in bytes.
        decision: index of the decision that undoes them, from 0.
    """
    counts = {}
    for log in UNDONE_LOGS[:2]:
        known = list(directory.records(log))
        lines = [line for line, end in zip(known, _ends(directory.path / log), strict=True) if end > lengths[log]]
        for line in lines:
            directory.append("discarded.jsonl", {"decision": decision, "log": log, "record": line})
        counts[log] = len(lines)
    return counts["metrics.jsonl"]


def _ends(log: Path) -> list[int]:
    """Where each whole line of a log ends, in bytes."""
    ends, position = [], 0
    for line in log.read_bytes().splitlines(keepends=True) if log.exists() else ():
        position += len(line)
        if line.endswith(b"\n"):
            ends.append(position)
    return ends


def steps_before(directory: RunDirectory, stage: int) -> int:
    """Optimizer steps that the stages before one have taken; one that was ended early has fewer than configured."""
    taken: dict[int, int] = {}
    for record in directory.records("metrics.jsonl"):
        taken[record["stage"]] = max(taken.get(record["stage"], 0), record["step"])
    return sum(steps for number, steps in taken.items() if number < stage)


def cut_lengths(now: Mapping[str, int], checkpoint: Mapping[str, int]) -> dict[str, int]:
    """Lengths of the logs once a roll-back is done: decisions and discarded steps grow, the others are cut."""
    return {log: checkpoint[log] if log in UNDONE_LOGS else length for log, length in now.items()}
