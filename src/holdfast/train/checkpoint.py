"""Checkpoints to resume a killed run from. They are complete or absent, and checked by checksums before use.

A checkpoint is a folder with safetensors, written by torch's distributed checkpointing, and `position.json`. Every
process writes its own shards. Any number of processes can resume from them, because each reads what it needs from all
files.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException

from holdfast.errors import RunError, is_out_of_room
from holdfast.model.processes import Processes

KEPT = 2
"""How many checkpoints to keep: the newest, and the one before it in case the newest is damaged."""

FILE_BYTES = 2**30
"""Tensors share files of about this size. Writing a file takes as much host memory again, so files stay small."""

Groups = Mapping[str, Mapping[str, Tensor]]
"""Tensors by group ("policy", "optimizer", "teacher", …) and name."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: the position in the run, and tensors that are read on request."""

    path: Path
    position: Mapping[str, Any]

    @property
    def number(self) -> int:
        return int(self.path.name)

    def load(self, group: str, like: Callable[[str], Tensor | None] = lambda name: None) -> dict[str, Tensor]:
        """The tensors of a group, by name; empty if the group has none.

        Args:
            like: returns, for a name, a tensor that is laid out over processes and devices as the loaded one is to be.
                If it returns None or a tensor of another shape, the whole tensor is loaded onto the CPU.
        """
        reader = HuggingFaceStorageReader(str(self.path))
        tensors: dict[str, Tensor] = {}
        for key, stored in reader.read_metadata().state_dict_metadata.items():
            owner, _, name = key.partition("/")
            if owner == group:
                model = like(name)
                if model is not None and model.shape == stored.size:  # type: ignore[union-attr]
                    tensors[name] = torch.empty_like(model, dtype=stored.properties.dtype, requires_grad=False)  # type: ignore[union-attr]
                else:
                    tensors[name] = torch.empty(stored.size, dtype=stored.properties.dtype)  # type: ignore[union-attr]
        with _plain_errors():
            dcp.load(
                {f"{group}/{name}": tensor for name, tensor in tensors.items()},
                storage_reader=reader,
                no_dist=Processes.current().size == 1,
            )
        return tensors


def save_checkpoint(
    folder: Path, number: int, groups: Groups, position: Mapping[str, Any], *, spare: Collection[int] = ()
) -> Path:
    """Write checkpoint `number` into `folder`, and remove old ones.

    It is written into a temporary folder, with checksums, and then renamed. All processes call this together. A tensor
    that several processes have is written by one. Tensors that are not sharded must be equal on all.

    Args:
        spare: numbers of old checkpoints that must stay.

    Raises:
        RunError: the checkpoint cannot be written.
    """
    try:
        return _save(folder, number, groups, position, spare)
    except OSError as error:
        where = str(error.filename or folder)
        fix = "free some disk space" if is_out_of_room(error) else "check the folder, its permissions and its disk"
        raise RunError(f"a checkpoint cannot be written: {error.strerror}", where=where, fix=fix) from error


def _save(folder: Path, number: int, groups: Groups, position: Mapping[str, Any], spare: Collection[int]) -> Path:
    world = Processes.current()
    final = folder / f"{number:08d}"
    temporary = folder / f".{number:08d}.tmp"
    world.main(lambda: _make_empty(temporary))
    tensors = {f"{group}/{name}": tensor.detach() for group, own in groups.items() for name, tensor in own.items()}
    with _plain_errors():
        dcp.save(
            tensors,
            storage_writer=HuggingFaceStorageWriter(
                str(temporary), fqn_to_index_mapping=_file_numbers(tensors, world), save_distributed=True
            ),
            no_dist=world.size == 1,
        )
    names = world.broadcast(sorted(path.name for path in temporary.iterdir()))
    parts = world.each(lambda: {name: _digest_and_flush(temporary / name) for name in world.share(names)})
    sums = {name: digest for part in parts for name, digest in part.items()}
    world.main(lambda: _finish(temporary, final, sums, position, spare))
    return final


def _file_numbers(tensors: Mapping[str, Tensor], world: Processes) -> dict[str, int]:
    """The number of each tensor's file, from 1. It is the same on all processes, also for tensors that only one has."""
    sizes: dict[str, int] = {}
    for own in world.gather({name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}):
        sizes |= own
    numbers, written = {}, 0
    for name, size in sizes.items():
        numbers[name] = 1 + written // FILE_BYTES
        written += size
    return numbers


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _finish(
    temporary: Path, final: Path, sums: dict[str, str], position: Mapping[str, Any], spare: Collection[int]
) -> None:
    """Add the main process's files, and rename the complete folder to its final name."""
    (temporary / "position.json").write_text(json.dumps(position))
    sums["position.json"] = _digest_and_flush(temporary / "position.json")
    (temporary / "checksums.json").write_text(json.dumps(sums))
    _flush(temporary / "checksums.json")
    _flush(temporary)
    aside = _aside(final)
    if final.exists():
        # Moved and not removed: after a kill between these two renames, `_recover` moves it back.
        os.replace(final, aside)
    os.replace(temporary, final)
    _flush(final.parent)
    shutil.rmtree(aside, ignore_errors=True)
    # A checkpoint with a higher number was damaged, and this run resumed from one before it. It does not count.
    known = [path for path in _numbered(final.parent) if int(path.name) <= int(final.name)]
    for old in known[:-KEPT]:
        if int(old.name) in spare:
            continue
        shutil.rmtree(old, ignore_errors=True)


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest complete checkpoint; None without any. A damaged one is skipped with a warning that names it.

    Raises:
        RunError: all checkpoints are damaged. The run does not start again, because that would discard its logs.
    """
    world = Processes.current()
    paths = world.main(lambda: _recover(folder))
    for path, before in zip(paths, [*paths[1:], None]):
        if not (fault := _fault(path)):
            return _opened(path)
        if before is None:
            raise RunError(
                f"{fault}, and no other checkpoint is complete",
                where=str(path),
                fix="restore it from a backup, or remove the run directory and run again",
            )
        warnings.warn(f"{path}: {fault}; resuming from the checkpoint before it", stacklevel=2)
    return None


def remove_between(folder: Path, first: int, last: int) -> None:
    """Remove the checkpoints with numbers above `first` and below `last`."""
    for path in _numbered(folder):
        if first < int(path.name) < last:
            shutil.rmtree(path)


def _aside(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


def _recover(folder: Path) -> list[Path]:
    """All checkpoints, the newest first, after moving back those that a kill left under a temporary name."""
    for aside in folder.glob(".*.old") if folder.is_dir() else ():
        final = folder / aside.name[1 : -len(".old")]
        if final.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.replace(aside, final)
    return list(reversed(_numbered(folder)))


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a folder.

    Raises:
        RunError: the checkpoint is incomplete or damaged.
    """
    if fault := _fault(path):
        raise RunError(fault, where=str(path), fix="name another checkpoint")
    return _opened(path)


def _opened(path: Path) -> Checkpoint:
    return Checkpoint(path, json.loads((path / "position.json").read_text()))


def _numbered(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir()) if folder.is_dir() else []


def _fault(path: Path) -> str:
    """What is wrong with a checkpoint, or "". Every process checks a share of the files."""
    world = Processes.current()
    return next((fault for fault in world.each(lambda: _fault_in_share(path, world)) if fault), "")


def _fault_in_share(path: Path, world: Processes) -> str:
    try:
        sums = json.loads((path / "checksums.json").read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "incomplete checkpoint, checksums.json is missing or unreadable"
    if not isinstance(sums, dict) or "position.json" not in sums:
        return "damaged checkpoint, checksums.json has changed"
    for name in world.share(list(sums)):
        file = path / name
        if not file.is_file():
            return f"damaged checkpoint, {name} is missing"
        if _digest(file) != sums[name]:
            return f"damaged checkpoint, {name} has changed"
    return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_and_flush(path: Path) -> str:
    _flush(path)
    return _digest(path)


def _flush(path: Path) -> None:
    """Have the system write a file or folder to disk now, so that a power cut cannot lose it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Hide torch's warning that a single process is not distributed, and raise errors without torch's wrapper."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            yield
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from error
