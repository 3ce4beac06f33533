"""What a resumed run relies on outside its checkpoint: logs, results of earlier stages, saved models, the manifest.

All of it is checked by checksums before anything is written. What can be made again is; what cannot is named.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from holdfast.errors import RunError
from holdfast.store.file_kinds import kind_at
from holdfast.store.run_directory import RunDirectory
from holdfast.train.checkpoint import Checkpoint

_BACKUP = "restore it from a backup, or remove the run directory and run again"

_OF_STAGE = re.compile(r"^(evals|responses|drift|rewritten|models)/stage-(\d+)(\.json$|/)")

MADE_OF_BASE = ("evals/stage-0.json", "responses/stage-0.json")
"""What the model before training gives. It can be measured again as long as no weight has moved."""


def fault_outside(directory: RunDirectory, checkpoint: Checkpoint) -> RunError | None:
    """What is wrong with the files that a run relies on to resume from a checkpoint; None if nothing is.

    Files of the checkpoint's own stage, and of later ones, do not count: the run writes them again. Nor do those that
    `MADE_OF_BASE` names.
    """
    position = checkpoint.position
    if fault := directory.logs.fault(position["logs"], position.get("log_digests", {})):
        return fault
    return next(_stage_faults(directory, position["stage"], position["step"]), None)


def _stage_faults(directory: RunDirectory, current: int, step: int) -> Iterator[RunError]:
    checksums = directory.checksums
    for stage in range(1, current):
        path = directory.evaluation(stage)
        if not path.is_file():
            yield RunError("is missing", where=str(path), fix=_BACKUP)
        elif problem := _problem(lambda path=path: evaluation_of(directory, path)):  # type: ignore[misc]
            yield problem
    for name in sorted(checksums.names()):
        found = _OF_STAGE.match(name)
        if found is None or name in MADE_OF_BASE:
            continue
        kind, stage = found[1], int(found[2])
        # A stage trains on its demonstrations from its first step on. Before it, they can be written again.
        is_relied_on = stage < current or (kind == "rewritten" and stage == current and step > 0)
        if not is_relied_on or not (fault := checksums.fault(name)):
            continue
        if kind == "models":
            if not directory.model(stage).exists():
                continue  # removed to make room: the drift of later stages is left out, which is warned of then
            fix = f"restore it from a backup, or remove {directory.model(stage)} to do without"
            yield RunError(fault, where=str(directory.path / name), fix=fix)
        else:
            yield RunError(fault, where=str(directory.path / name), fix=_BACKUP)


def evaluation_of(directory: RunDirectory, path: Path) -> dict[str, Any]:
    """The content of a file in `evals/`.

    Raises:
        RunError: it is missing, has changed, or holds something else.
    """
    content: dict[str, Any] = directory.read_checked(path)
    if not all(isinstance(content.get(key), dict) for key in ("sets", "items")):
        raise RunError("is damaged: it holds no scores", where=str(path), fix="restore it from a backup")
    return content


def _problem(read: Callable[[], object]) -> RunError | None:
    try:
        read()
    except RunError as error:
        return error
    return None


def base_measurements_to_repeat(directory: RunDirectory) -> list[RunError]:
    """What is wrong with what was measured before the first stage."""
    faults = [_problem(lambda: evaluation_of(directory, directory.evaluation(0)))]
    # Not every run compares answers. Without checksums, other files in the folder show that this one does.
    responses = directory.responses(0)
    if "responses/stage-0.json" in directory.checksums.names() or any(responses.parent.glob("stage-*.json")):
        faults.append(_problem(lambda: directory.read_checked(responses)))
    return [fault for fault in faults if fault is not None]


def drop_unused_rewrites(directory: RunDirectory, stage: int) -> None:
    """Remove damaged demonstrations of a stage without a step yet: they are written again, with the same draws."""
    path = directory.rewritten(stage)
    if kind_at(path) and (problem := _problem(lambda: directory.read_checked(path))):
        warnings.warn(f"{problem.where}: {problem.what}; it is written again", stacklevel=2)
        path.unlink()


def refuse_damaged_model(directory: RunDirectory, stage: int) -> None:
    """Check the saved model of a stage.

    Raises:
        RunError: a file of it is missing or has changed.
    """
    for name in sorted(directory.checksums.names()):
        if name.startswith(f"models/stage-{stage}/") and (fault := directory.checksums.fault(name)):
            raise RunError(fault, where=str(directory.path / name), fix="restore it from a backup")


def refuse_lost_checkpoints(directory: RunDirectory) -> None:
    """Check that a run without a checkpoint has never had one. It would start again, and discard its logs.

    A run that saves none within its stages has a model of the first stage before its first checkpoint. So files count
    only if the checksums, which say whether there was a checkpoint, are gone.

    Raises:
        RunError: it has had one.
    """
    checksums, later = directory.checksums, (directory.evaluation(1), directory.model(1))
    if checksums.has_checkpoint or (not any(checksums.names()) and any(each.exists() for each in later)):
        raise RunError("the run's checkpoints are missing", where=str(directory.checkpoints), fix=_BACKUP)


def read_manifest(directory: RunDirectory) -> dict[str, Any] | None:
    """The manifest of a run; None without one.

    Raises:
        RunError: it is damaged.
    """
    path = directory.manifest
    if not kind_at(path):
        return None
    manifest: dict[str, Any] = directory.read_checked(path)
    shape = {"model": dict, "data": dict, "libraries": dict, "threads": int, "label": str}
    wrong = [key for key, kind in shape.items() if not isinstance(manifest.get(key), kind)]
    if wrong or not isinstance(manifest["model"].get("sha256"), str):
        key = wrong[0] if wrong else "model.sha256"
        raise RunError(f"is damaged: it has no {key}", where=str(path), fix=_BACKUP)
    return manifest


def refuse_lost_manifest(directory: RunDirectory) -> None:
    """Check that a run without a manifest was killed before it wrote one.

    Raises:
        RunError: the run has gone further, so it has lost its manifest.
    """
    later = (directory.checkpoints, directory.path / "evals", directory.path / "metrics.jsonl")
    if not kind_at(directory.manifest) and any(each.exists() for each in later):
        raise RunError("is missing", where=str(directory.manifest), fix=_BACKUP)


def warn_of_changed_config(directory: RunDirectory) -> None:
    """Warn if the configuration is not as the run wrote it: a user may change it on purpose, or a disk by mistake."""
    if fault := directory.checksums.fault(directory.config.name):
        warnings.warn(f"{directory.config}: {fault}; the run goes on with it as it is now", stacklevel=2)
