"""Checkpoints to resume a killed run from. They are complete or absent, and checked by checksums before use.

A checkpoint is a folder with safetensors, written by torch's distributed checkpointing, and `position.json`. Every
process writes its own shards. Any number of processes can resume from them, because each reads what it needs from all
files.
"""

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

from holdfast.errors import HoldfastError, RunError
from holdfast.model.processes import Processes
from holdfast.store.checksums import digest_of_file
from holdfast.store.disk import error_number, write_error
from holdfast.store.durable import flush, flush_folder, make_folder, replace
from holdfast.store.files import read_json

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
    except HoldfastError:
        raise
    except Exception as error:
        if (errno := error_number(error)) is None:
            raise
        if Processes.current().is_main:
            shutil.rmtree(_temporary(folder, number), ignore_errors=True)  # it may have taken the last room
        needed = checkpoint_bytes(groups)
        raise write_error(error, errno, "a checkpoint", folder / f"{number:08d}", needed) from error


def checkpoint_bytes(groups: Groups) -> int:
    """How many bytes the tensors of a checkpoint take, of this process's share of the models."""
    return sum(tensor.numel() * tensor.element_size() for own in groups.values() for tensor in own.values())


def _save(folder: Path, number: int, groups: Groups, position: Mapping[str, Any], spare: Collection[int]) -> Path:
    world = Processes.current()
    final = folder / f"{number:08d}"
    temporary = _temporary(folder, number)
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


def _temporary(folder: Path, number: int) -> Path:
    return folder / f".{number:08d}.tmp"


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder.parent)
    folder.mkdir()


def _finish(
    temporary: Path, final: Path, sums: dict[str, str], position: Mapping[str, Any], spare: Collection[int]
) -> None:
    """Add the main process's files, and rename the complete folder to its final name."""
    (temporary / "position.json").write_text(json.dumps(position))
    sums["position.json"] = _digest_and_flush(temporary / "position.json")
    (temporary / "checksums.json").write_text(json.dumps(sums))
    flush(temporary / "checksums.json")
    flush_folder(temporary)
    aside = _aside(final)
    if final.exists():
        # Moved and not removed: after a kill between these two renames, `_recover` moves it back.
        os.replace(final, aside)
    replace(temporary, final)
    shutil.rmtree(aside, ignore_errors=True)
    # A checkpoint with a higher number was damaged, and this run resumed from one before it. It does not count.
    known = [path for path in _numbered(final.parent) if int(path.name) <= int(final.name)]
    for old in known[:-KEPT]:
        if int(old.name) in spare:
            continue
        shutil.rmtree(old, ignore_errors=True)


def load_newest(
    folder: Path, elsewhere: Callable[[Checkpoint], RunError | None] = lambda _: None, *, mends: bool = True
) -> Checkpoint | None:
    """The newest complete checkpoint; None without any. A damaged one is skipped with a warning that names it.

    Args:
        elsewhere: what is wrong with what a checkpoint relies on outside its folder. The main process asks it.
        mends: also use a checkpoint that a kill left under a temporary name. False changes nothing in the folder, which
            a run may be writing.

    Raises:
        RunError: all checkpoints are damaged. The run does not start again, because that would discard its logs.
    """
    world = Processes.current()
    paths = world.main(lambda: _recover(folder) if mends else list(reversed(_numbered(folder))))
    first: RunError | None = None
    for path in paths:
        if fault := _fault(path):
            problem: RunError | None = RunError(fault, where=str(path))
        else:
            found = _opened(path)
            problem = world.main(lambda found=found: elsewhere(found))  # type: ignore[misc]
            if problem is None:
                return found
        assert problem is not None
        first = first or problem
        if path != paths[-1]:
            says = "" if fault else f", so checkpoint {path.name} cannot be resumed from"
            warnings.warn(
                f"{problem.where}: {problem.what}{says}; resuming from the checkpoint before it", stacklevel=2
            )
    if first is None:
        return None
    raise RunError(
        f"{first.what}, and no other checkpoint is complete",
        where=first.where,
        fix="restore it from a backup, or remove the run directory and run again",
    )


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
        raise RunError(fault, where=str(path), fix="restore it from a backup, or use another checkpoint")
    return _opened(path)


def _opened(path: Path) -> Checkpoint:
    return Checkpoint(path, json.loads((path / "position.json").read_text()))


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir())


def _fault(path: Path) -> str:
    """What is wrong with a checkpoint, or "". Every process checks a share of the files."""
    world = Processes.current()
    return next((fault for fault in world.each(lambda: _fault_in_share(path, world)) if fault), "")


def _fault_in_share(path: Path, world: Processes) -> str:
    try:
        sums = read_json(path / "checksums.json")
    except RunError:
        return "incomplete checkpoint, checksums.json is missing or unreadable"
    if not isinstance(sums, dict) or "position.json" not in sums:
        return "damaged checkpoint, checksums.json has changed"
    for name in world.share(list(sums)):
        file = path / name
        if not file.is_file():
            return f"damaged checkpoint, {name} is missing"
        if digest_of_file(file) != sums[name]:
            return f"damaged checkpoint, {name} has changed"
    return ""


def _digest_and_flush(path: Path) -> str:
    flush(path)
    return digest_of_file(path)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Hide torch's warning that a single process is not distributed, and raise errors without torch's wrapper."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            yield
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from error
